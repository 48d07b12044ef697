package backup

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	"github.com/certctl-io/certctl/internal/problem"
)

const ageHeader = "age-encryption.org/v1\n"

// parseRecipients reads the recipients given one by one and in files.
func parseRecipients(given, files []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, one := range given {
		parsed, err := age.ParseRecipients(strings.NewReader(one))
		if err != nil || len(parsed) != 1 {
			return nil, problem.Invalid("age-recipient", "%q is not a recipient of age", one).
				Hint("give the public key that age-keygen prints: it begins with age1")
		}
		all = append(all, parsed...)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, problem.Invalid("age-recipients-file", "it cannot be read: %v", err)
		}
		parsed, err := age.ParseRecipients(bytes.NewReader(text))
		if err != nil {
			return nil, problem.Invalid("age-recipients-file", "%s: %v", path, err).Hint("one recipient a line, each beginning with age1")
		}
		all = append(all, parsed...)
	}
	return all, nil
}

// parseIdentities reads the private keys of age in files.
func parseIdentities(files []string) ([]age.Identity, error) {
	var all []age.Identity
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, problem.Invalid("age-identity-file", "it cannot be read: %v", err)
		}
		parsed, err := age.ParseIdentities(bytes.NewReader(text))
		if err != nil {
			// The error of age may quote the line, which is a private key.
			return nil, problem.Invalid("age-identity-file", "%s holds no private keys of age", path).
				Hint("give the file that age-keygen made")
		}
		all = append(all, parsed...)
	}
	return all, nil
}

// witness makes a key pair of the recipients' kind that lives in memory for
// one backup: with it the written file is read back and decrypted, although
// nobody here has the private key of a recipient.
func witness(recipients []age.Recipient) (age.Recipient, age.Identity, error) {
	if _, hybrid := recipients[0].(*age.HybridRecipient); hybrid {
		identity, err := age.GenerateHybridIdentity()
		if err != nil {
			return nil, nil, err
		}
		return identity.Recipient(), identity, nil
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, nil, err
	}
	return identity.Recipient(), identity, nil
}

// decrypt gives what is inside an age file, and any other file as it is.
func decrypt(r io.Reader, identities []age.Identity) (io.Reader, bool, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	head, err := buffered.Peek(len(ageHeader))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, problem.Invalid("from", "it cannot be read: %v", err)
	}
	if string(head) != ageHeader {
		return buffered, false, nil
	}
	if len(identities) == 0 {
		return nil, true, problem.Invalid("from", "the backup is encrypted").Hint("give the private key with --age-identity-file")
	}
	plain, err := age.Decrypt(buffered, identities...)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, true, problem.Invalid("age-identity-file", "the backup is not encrypted for any of these keys").
			Hint("give the private key of one of the recipients it was made for")
	}
	if err != nil {
		return nil, true, damaged(err.Error())
	}
	return plain, true, nil
}

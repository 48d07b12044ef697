package netx

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// ReadCAFile reads the CAs that a client is told to trust, in PEM. It may be
// told several files, separated by commas: the first counts that is there and
// not empty. A Secret of Kubernetes may or may not say by which CA its
// certificate was issued. It never gives an empty text, which could be taken
// for the CAs of the system.
func ReadCAFile(paths string) ([]byte, error) {
	var unusable error
	for path := range strings.SplitSeq(paths, ",") {
		text, err := os.ReadFile(strings.TrimSpace(path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if unusable == nil {
				unusable = err
			}
		case err != nil:
			return nil, err
		case len(bytes.TrimSpace(text)) > 0:
			return text, nil
		default:
			unusable = errors.New("it holds no certificate")
		}
	}
	return nil, unusable
}

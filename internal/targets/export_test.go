package targets

import "context"

// OnReached has tests told of every point between two changes of the host.
func (e *Engine) OnReached(call func(point string)) { e.reached = call }

// TempPath is where a target prepares a file.
var TempPath = tempPath

// SteadyTime is how long a server must show the same certificate.
const SteadyTime = steadyTime

// Shown gives what is kept of the output of a command of the plan.
func Shown(plan Plan, chunks ...[]byte) string {
	var output boundedOutput
	for _, chunk := range chunks {
		_, _ = output.Write(chunk)
	}
	return output.text(newRedactor(plan))
}

// MaxOutput is how many bytes of the output of a command are kept.
const MaxOutput = maxOutput

// RunCommand runs a command as the engine does.
func RunCommand(ctx context.Context, plan Plan, c Command) (string, error) {
	return newRunner(searchPath("/nowhere"), plan).run(ctx, c)
}

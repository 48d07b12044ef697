package duration

import "github.com/danielgtaylor/huma/v2"

// Schema describes the form to the API, so that a wrong one is reported under
// the field that has it.
func (Duration) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type:               huma.TypeString,
		Pattern:            `^(?:\d{1,9}w)?(?:\d{1,9}d)?(?:\d{1,9}h)?(?:\d{1,9}m)?(?:\d{1,9}s)?$`,
		PatternDescription: "a duration such as 90d, 12h or 1d12h",
		Examples:           []any{"90d"},
	}
}

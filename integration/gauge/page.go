package gauge

import (
	"bytes"
	"fmt"
	"strings"
)

// Replace returns a page with other text between the lines begin and end. It is an error if
// the page lacks one of these lines.
func Replace(page []byte, begin, end, text string) ([]byte, error) {
	before, rest, found := bytes.Cut(page, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return nil, fmt.Errorf("the lines %q and %q are missing", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return bytes.Join([][]byte{before, []byte(begin + text + end), after}, nil), nil
}

package pcapfilter

import (
	"fmt"
	"strings"
)

// operators, the longer ones first.
var operators = []string{"&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "(", ")", "!", "&", "|", "+", "<", ">", "="}

// lex cuts an expression into words and operators. What stands in brackets is a
// token with its brackets, for offsets have colons, as have MACs.
func lex(text string) (tokens []string, err error) {
	for {
		text = strings.TrimLeft(text, " \t\r\n")
		if text == "" {
			return tokens, nil
		}
		length := len(text) - len(strings.TrimLeft(text, wordCharacters))
		if length == 0 {
			if length = operatorLength(text); length == 0 {
				return nil, fmt.Errorf("%q is not understood", text)
			}
		}
		tokens = append(tokens, text[:length])
		text = text[length:]
	}
}

const wordCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/-_\\"

func operatorLength(text string) int {
	if text[0] == '[' {
		return strings.IndexByte(text, ']') + 1
	}
	for _, o := range operators {
		if strings.HasPrefix(text, o) {
			return len(o)
		}
	}
	return 0
}

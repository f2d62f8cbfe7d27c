package pcapfilter

import (
	"fmt"
	"strings"
)

// operators begin with the longer ones, because the first that fits is taken.
var operators = []string{"&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "(", ")", "!", "&", "|", "+", "<", ">", "="}

// lex cuts an expression into words and operators. Brackets and what is in them are one
// token, because a colon there separates offset and size, and in a MAC it does not.
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

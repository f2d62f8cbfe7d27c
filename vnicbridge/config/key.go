package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Key is a secret that several machines share. Its text form is 32 hexadecimal digits. It
// shows itself in that form only, in a configuration: neither fmt nor slog prints it.
type Key [16]byte

// errKey says nothing of what was written, because that may be most of the secret.
var errKey = errors.New("key: want 32 hexadecimal digits, as `openssl rand -hex 16` prints them, and not all of them 0")

// ParseKey parses the text form of a Key.
func ParseKey(text string) (k Key, err error) {
	if len(text) != hex.EncodedLen(len(k)) {
		return Key{}, errKey
	}
	if _, err := hex.Decode(k[:], []byte(text)); err != nil || k.IsZero() {
		return Key{}, errKey
	}
	return k, nil
}

// IsZero tells whether the key is unset.
func (k Key) IsZero() bool { return k == Key{} }

// Format implements fmt.Formatter.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(secret)") }

// LogValue implements slog.LogValuer.
func (Key) LogValue() slog.Value { return slog.StringValue("(secret)") }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(k[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKey(string(text))
	return err
}

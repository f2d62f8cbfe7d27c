package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const keyText = "00112233445566778899aabbccddeeff"

func TestKey(t *testing.T) {
	var cfg Config
	if err := json.Unmarshal([]byte(`{"key": "`+strings.ToUpper(keyText)+`"}`), &cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Key[1] != 0x11 || cfg.Key[15] != 0xff {
		t.Error("the key is not what was written")
	}
	if text, err := json.Marshal(cfg); err != nil || string(text) != `{"key":"`+keyText+`"}` {
		t.Errorf("it becomes %s: %v", text, err)
	}
	if text, err := json.Marshal(Config{}); err != nil || string(text) != "{}" {
		t.Errorf("no key becomes %s: %v", text, err)
	}
}

// A key is neither printed nor logged, nor quoted by an error.
func TestKeyIsSecret(t *testing.T) {
	key, err := ParseKey(keyText)
	if err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	slog.New(slog.NewJSONHandler(&told, nil)).Info("it is", "key", key)
	slog.New(slog.NewTextHandler(&told, nil)).Info("it is", "key", key)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		fmt.Fprintf(&told, verb, key)
		fmt.Fprintf(&told, verb, Config{Key: key})
	}
	for _, wrong := range []string{
		keyText + "a", keyText[1:], strings.Replace(keyText, "1", "g", 1), strings.Repeat("0", 32), "",
	} {
		_, err := ParseKey(wrong)
		if err == nil || !strings.Contains(err.Error(), "openssl rand -hex 16") {
			t.Errorf("%q is a key: %v", wrong, err)
			continue
		}
		fmt.Fprintln(&told, err, json.Unmarshal([]byte(`{"key": "`+wrong+`"}`), new(Config)))
	}
	for _, part := range []string{"2233", "34 51", "0x22"} {
		if strings.Contains(told.String(), part) {
			t.Errorf("the key is told: %s", told.String())
		}
	}
}

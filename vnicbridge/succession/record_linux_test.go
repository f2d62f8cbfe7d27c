package succession

import (
	"strings"
	"testing"
)

// Whatever part of a write was done when its process was killed, a reader finds the content from
// before or the new one.
func TestInterruptedReplace(t *testing.T) {
	r, err := NewRecord("record")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, _, err := OpenRecord(r.File); err == nil {
		t.Error("an empty record has a content")
	}
	contents := []string{"first", "", strings.Repeat("third ", 10000), "4", "fifth"}
	for i, content := range contents {
		if err := r.Replace([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := OpenRecord(r.File); err != nil || string(got) != content {
			t.Fatalf("the record has %d bytes (%v), want %d", len(got), err, len(content))
		}
		if i == 0 {
			continue
		}
		// The last byte of what was written last is not written.
		at := int64(r.sequence%2*slotSize) + int64(recordHeaderSize) + int64(len(content)) - 1
		last := make([]byte, 1)
		if _, err := r.ReadAt(last, at); err != nil {
			t.Fatal(err)
		}
		if _, err := r.WriteAt([]byte{^last[0]}, at); err != nil {
			t.Fatal(err)
		}
		if _, got, err := OpenRecord(r.File); err != nil || string(got) != contents[i-1] {
			t.Errorf("after an interrupted write the record has %d bytes (%v), want those of before", len(got), err)
		}
		if _, err := r.WriteAt(last, at); err != nil {
			t.Fatal(err)
		}
	}
	again, _, err := OpenRecord(r.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Replace([]byte("of a successor")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := OpenRecord(r.File); err != nil || string(got) != "of a successor" {
		t.Errorf("the record has %q (%v) from a successor", got, err)
	}
	if err := r.Replace(make([]byte, slotSize)); err == nil {
		t.Error("a content that is too long is taken")
	}
}

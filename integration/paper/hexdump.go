package paper

import (
	"fmt"
	"strings"
)

// rewrittenFields are the fields of an Ethernet frame with an IPv4 packet that
// the bridge rewrites.
var rewrittenFields = []struct {
	name       string
	from, upTo int
}{
	{"destination MAC", 0, 6},
	{"source MAC", 6, 12},
	{"IP checksum", 24, 26},
	{"source IP", 26, 30},
	{"destination IP", 30, 34},
}

// hexDump prints a frame as the paper does, 16 bytes a line. The line below names the
// fields whose bytes differ from the frame before the rewrite. If before is nil,
// hexDump names none.
func hexDump(frame, before []byte) string {
	var b strings.Builder
	for from := 0; from < len(frame); from += 16 {
		upTo := min(from+16, len(frame))
		fmt.Fprintf(&b, "  %04x  % x\n", from, frame[from:upTo])
		if before != nil {
			b.WriteString(rewriteMarks(frame, before, from, upTo))
		}
	}
	return b.String()
}

// rewriteMarks is the line under a line of the dump, if anything on it changed.
func rewriteMarks(frame, before []byte, from, upTo int) string {
	var marks strings.Builder
	var changed []string
	for i := from; i < upTo; i++ {
		if i < len(before) && frame[i] == before[i] {
			marks.WriteString("   ")
			continue
		}
		marks.WriteString("^^ ")
		if name := fieldAt(i); len(changed) == 0 || changed[len(changed)-1] != name {
			changed = append(changed, name)
		}
	}
	if len(changed) == 0 {
		return ""
	}
	return fmt.Sprintf("        %s %s\n", pad(marks.String(), 48), strings.Join(changed, ", "))
}

func fieldAt(offset int) string {
	for _, field := range rewrittenFields {
		if field.from <= offset && offset < field.upTo {
			return field.name
		}
	}
	return fmt.Sprintf("byte %d", offset)
}

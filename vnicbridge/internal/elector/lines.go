package elector

import "bytes"

// maxLine is how long a line can be, in bytes. What is longer is no notice.
const maxLine = 1024

// lines cuts what is read into lines.
type lines struct {
	begun []byte // of a line whose end has not come
	skip  bool   // the line is too long
}

// add takes in what was read, and calls heard with each line that is complete.
func (l *lines) add(read []byte, heard func(line string)) {
	for len(read) > 0 {
		end := bytes.IndexByte(read, '\n')
		part := read
		if end >= 0 {
			part = read[:end]
		}
		if l.skip = l.skip || len(l.begun)+len(part) > maxLine; !l.skip {
			l.begun = append(l.begun, part...)
		}
		if end < 0 {
			return
		}
		if !l.skip {
			heard(string(l.begun))
		}
		*l = lines{begun: l.begun[:0]}
		read = read[end+1:]
	}
}

package names

// fields reads the fields of QUIC packets and frames. If a field is longer than the rest, cut is
// true, and this field and all later ones are zero.
type fields struct {
	rest []byte
	cut  bool
}

func (f *fields) take(n uint64) (b []byte) {
	if n > uint64(len(f.rest)) {
		f.rest, f.cut = nil, true
		return nil
	}
	b, f.rest = f.rest[:n], f.rest[n:]
	return b
}

// number reads an integer of n bytes.
func (f *fields) number(n uint64) (v uint64) {
	for _, b := range f.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// varint reads an integer whose first two bits tell its length (RFC 9000 §16).
func (f *fields) varint() uint64 {
	if len(f.rest) == 0 {
		return f.number(1)
	}
	lenBits := f.rest[0] >> 6
	return f.number(1<<lenBits) &^ (3 << (8<<lenBits - 2))
}

func (f *fields) skipVarints(n uint64) {
	for ; n > 0 && !f.cut; n-- {
		f.varint()
	}
}

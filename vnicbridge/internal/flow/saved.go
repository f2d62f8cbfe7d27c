package flow

import (
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Saved is a flow without its table, as a process tells its successor of it.
type Saved struct {
	In, Out     uint32 // the numbers of its ifaces
	Orig, Reply packet.Tuple
	LastSeen    uint32
	Flags       uint32
	Windows     [2]uint32
	Sent        [2]SavedTraffic
	Shift       [4]uint32 // of a greeted flow: its shift, and the number of its rule
}

// SavedTraffic is [Traffic].
type SavedTraffic struct {
	Count     uint64
	Ack, Next uint32
}

// SavedFormat is the number of the layout of [Saved]. A change of the layout needs another
// number.
const SavedFormat = 1

// Save returns the flow without its table.
func (f *Flow) Save() Saved {
	s := Saved{
		In: f.In.Index, Out: f.Out.Index, Orig: f.Orig, Reply: f.Reply,
		LastSeen: f.LastSeen.Load(), Flags: f.Flags.Load(),
	}
	for dir, sent := range f.Sent {
		s.Windows[dir] = f.Windows[dir].Load()
		s.Sent[dir] = SavedTraffic{sent.Count.Load(), sent.Ack.Load(), sent.Next.Load()}
	}
	if s.Flags&Greeted != 0 {
		for i := range s.Shift {
			s.Shift[i] = f.shift[i].Load()
		}
	}
	return s
}

// Flow returns the flow again, between the ifaces that had its numbers.
func (s *Saved) Flow(in, out *iface.Iface) *Flow {
	f := alone(in, out, s.Orig, s.Reply)
	f.LastSeen.Store(s.LastSeen)
	f.Flags.Store(s.Flags &^ Counted)
	for dir, sent := range f.Sent {
		f.Windows[dir].Store(s.Windows[dir])
		sent.Count.Store(s.Sent[dir].Count)
		sent.Ack.Store(s.Sent[dir].Ack)
		sent.Next.Store(s.Sent[dir].Next)
	}
	for i, word := range s.Shift {
		f.shift[i].Store(word)
	}
	return f
}

// SavedBytes returns the memory of saved flows, which [SavedFrom] reads. Only the same machine can
// read it.
func SavedBytes(flows []Saved) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(flows))), len(flows)*int(unsafe.Sizeof(Saved{})))
}

// SavedFrom returns the flows that [SavedBytes] gave. What is left of an incomplete one is ignored.
func SavedFrom(b []byte) []Saved {
	flows := make([]Saved, len(b)/int(unsafe.Sizeof(Saved{})))
	copy(SavedBytes(flows), b)
	return flows
}

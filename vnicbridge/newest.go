package vnicbridge

// newest is a map whose memory is bounded: it keeps what was put there last, and
// forgets the oldest. What is put there again is new.
type newest[K comparable, V any] struct {
	byKey map[K]numbered[V]
	queue []numbered[K] // the oldest first; also of what is gone, or was put there again
	puts  uint64
}

// numbered is something and the number of the put that it came by.
type numbered[T any] struct {
	value T
	put   uint64
}

func (n *newest[K, V]) put(key K, value V, most int) {
	if n.byKey == nil {
		n.byKey = make(map[K]numbered[V])
	}
	if len(n.queue) >= most {
		n.pop()
	}
	n.puts++
	n.byKey[key] = numbered[V]{value, n.puts}
	n.queue = append(n.queue, numbered[K]{key, n.puts})
}

func (n *newest[K, V]) get(key K) (V, bool) {
	found, ok := n.byKey[key]
	return found.value, ok
}

func (n *newest[K, V]) remove(key K) { delete(n.byKey, key) }

// pop forgets the oldest.
func (n *newest[K, V]) pop() {
	oldest := n.queue[0]
	n.queue = n.queue[1:]
	if n.byKey[oldest.value].put == oldest.put {
		delete(n.byKey, oldest.value)
	}
}

// popWhile forgets the oldest as long as they are such.
func (n *newest[K, V]) popWhile(is func(V) bool) {
	for len(n.queue) > 0 {
		oldest := n.queue[0]
		if found, ok := n.byKey[oldest.value]; ok && found.put == oldest.put && !is(found.value) {
			return
		}
		n.pop()
	}
}

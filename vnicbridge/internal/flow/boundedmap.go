package flow

// BoundedMap is a map whose memory is bounded: it keeps what was put there last, and
// forgets the oldest. What is put there again is new.
type BoundedMap[K comparable, V any] struct {
	ByKey map[K]numbered[V]
	queue []numbered[K] // the oldest first; also of what is gone, or was put there again
	puts  uint64
}

// numbered is something and the number of the put that it came by.
type numbered[T any] struct {
	value T
	put   uint64
}

func (m *BoundedMap[K, V]) Put(key K, value V, most int) {
	if m.ByKey == nil {
		m.ByKey = make(map[K]numbered[V])
	}
	if len(m.queue) >= most {
		m.pop()
	}
	m.puts++
	m.ByKey[key] = numbered[V]{value, m.puts}
	m.queue = append(m.queue, numbered[K]{key, m.puts})
}

func (m *BoundedMap[K, V]) Get(key K) (V, bool) {
	found, ok := m.ByKey[key]
	return found.value, ok
}

func (m *BoundedMap[K, V]) remove(key K) { delete(m.ByKey, key) }

// pop forgets the oldest.
func (m *BoundedMap[K, V]) pop() {
	oldest := m.queue[0]
	m.queue = m.queue[1:]
	if m.ByKey[oldest.value].put == oldest.put {
		delete(m.ByKey, oldest.value)
	}
}

// PopWhile forgets the oldest as long as they are such.
func (m *BoundedMap[K, V]) PopWhile(is func(V) bool) {
	for len(m.queue) > 0 {
		oldest := m.queue[0]
		if found, ok := m.ByKey[oldest.value]; ok && found.put == oldest.put && !is(found.value) {
			return
		}
		m.pop()
	}
}

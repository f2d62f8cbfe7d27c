package vnicbridge

// boundedMap is a map whose memory is bounded: it keeps what was put there last, and
// forgets the oldest. What is put there again is new.
type boundedMap[K comparable, V any] struct {
	byKey map[K]numbered[V]
	queue []numbered[K] // the oldest first; also of what is gone, or was put there again
	puts  uint64
}

// numbered is something and the number of the put that it came by.
type numbered[T any] struct {
	value T
	put   uint64
}

func (m *boundedMap[K, V]) put(key K, value V, most int) {
	if m.byKey == nil {
		m.byKey = make(map[K]numbered[V])
	}
	if len(m.queue) >= most {
		m.pop()
	}
	m.puts++
	m.byKey[key] = numbered[V]{value, m.puts}
	m.queue = append(m.queue, numbered[K]{key, m.puts})
}

func (m *boundedMap[K, V]) get(key K) (V, bool) {
	found, ok := m.byKey[key]
	return found.value, ok
}

func (m *boundedMap[K, V]) remove(key K) { delete(m.byKey, key) }

// pop forgets the oldest.
func (m *boundedMap[K, V]) pop() {
	oldest := m.queue[0]
	m.queue = m.queue[1:]
	if m.byKey[oldest.value].put == oldest.put {
		delete(m.byKey, oldest.value)
	}
}

// popWhile forgets the oldest as long as they are such.
func (m *boundedMap[K, V]) popWhile(is func(V) bool) {
	for len(m.queue) > 0 {
		oldest := m.queue[0]
		if found, ok := m.byKey[oldest.value]; ok && found.put == oldest.put && !is(found.value) {
			return
		}
		m.pop()
	}
}

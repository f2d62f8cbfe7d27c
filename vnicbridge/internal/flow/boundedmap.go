package flow

// BoundedMap is a map with bounded memory: it evicts the oldest entries. An entry that is
// put again counts as new. The zero value is an empty map. It has no lock.
type BoundedMap[K comparable, V any] struct {
	ByKey map[K]numbered[V]
	queue []numbered[K] // in the order of the puts; some are of removed or newer entries
	puts  uint64
}

// numbered is a value, and the number of the Put that brought it.
type numbered[T any] struct {
	value T
	put   uint64
}

// Put sets the value of a key. If there have been `most` puts that are not evicted yet, it
// evicts the oldest.
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

// Get returns the value of a key, and whether there is one.
func (m *BoundedMap[K, V]) Get(key K) (V, bool) {
	found, ok := m.ByKey[key]
	return found.value, ok
}

func (m *BoundedMap[K, V]) remove(key K) { delete(m.ByKey, key) }

// pop evicts the oldest put. If its key was put again since, the entry stays.
func (m *BoundedMap[K, V]) pop() {
	oldest := m.queue[0]
	m.queue = m.queue[1:]
	if m.ByKey[oldest.value].put == oldest.put {
		delete(m.ByKey, oldest.value)
	}
}

// PopWhile removes the oldest entries, in order, up to the first one for which the
// condition is false.
func (m *BoundedMap[K, V]) PopWhile(is func(V) bool) {
	for len(m.queue) > 0 {
		oldest := m.queue[0]
		if found, ok := m.ByKey[oldest.value]; ok && found.put == oldest.put && !is(found.value) {
			return
		}
		m.pop()
	}
}

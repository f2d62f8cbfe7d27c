package flow

import "testing"

func TestBoundedMap(t *testing.T) {
	var m BoundedMap[string, int]
	has := func(when string, want map[string]int) {
		t.Helper()
		for _, key := range []string{"a", "b", "c", "d"} {
			got, ok := m.Get(key)
			if value, wanted := want[key]; ok != wanted || got != value {
				t.Errorf("%s: %s is %d, %v; want %d, %v", when, key, got, ok, value, wanted)
			}
		}
		if len(m.queue) > 3 {
			t.Errorf("%s: the queue has %d", when, len(m.queue))
		}
	}
	put := func(key string, value int) { m.Put(key, value, 3) }
	put("a", 1)
	put("b", 2)
	put("a", 3)
	has("a twice", map[string]int{"a": 3, "b": 2})
	put("c", 4)
	has("the oldest place was one that a has left", map[string]int{"a": 3, "b": 2, "c": 4})
	put("d", 5)
	has("b was the oldest", map[string]int{"a": 3, "c": 4, "d": 5})
	m.remove("a")
	m.PopWhile(func(value int) bool { return value < 5 })
	has("what is removed holds nothing up", map[string]int{"d": 5})
	m.PopWhile(func(int) bool { return true })
	has("all", nil)
}

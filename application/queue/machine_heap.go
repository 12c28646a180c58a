package queue

// heap is a binary heap whose items know their place in it, so that any of them can be taken out. less orders them; slot is
// where an item keeps its place, counted from 1; 0 is "in no heap".
type heap[T any] struct {
	less  func(a, b T) bool
	slot  func(T) *int32
	items []T
}

func (h *heap[T]) len() int { return len(h.items) }

// first returns the least item; the heap must not be empty.
func (h *heap[T]) first() T { return h.items[0] }

func (h *heap[T]) push(x T) {
	h.items = append(h.items, x)
	*h.slot(x) = int32(len(h.items))
	h.up(len(h.items) - 1)
}

// remove takes out an item that is in this heap.
func (h *heap[T]) remove(x T) {
	i, end := int(*h.slot(x))-1, len(h.items)-1
	h.swap(i, end)
	*h.slot(x) = 0
	var zero T
	h.items[end] = zero
	h.items = h.items[:end]
	if i < end {
		h.down(i)
		h.up(i)
	}
	if cap(h.items) > 64 && len(h.items) < cap(h.items)/4 { // a queue that was long must not stay large
		h.items = append(make([]T, 0, cap(h.items)/2), h.items...)
	}
}

// fix restores the order after an item's key changed.
func (h *heap[T]) fix(x T) {
	i := int(*h.slot(x)) - 1
	h.down(i)
	h.up(i)
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.items[i], h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap[T]) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.items); child++ {
			if h.less(h.items[child], h.items[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

func (h *heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.slot(h.items[i]) = int32(i + 1)
	*h.slot(h.items[j]) = int32(j + 1)
}

// Package storetest checks that a [client.Store] keeps its promises.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/comity-im/comity/client"
)

// Run runs the suite; open returns a new, empty store.
func Run(t *testing.T, open func(t *testing.T) client.Store) {
	t.Run("rows", func(t *testing.T) { testRows(t, open(t)) })
	t.Run("order", func(t *testing.T) { testOrder(t, open(t)) })
	t.Run("buckets", func(t *testing.T) { testBuckets(t, open(t)) })
	t.Run("many", func(t *testing.T) { testMany(t, open(t)) })
	t.Run("copies", func(t *testing.T) { testCopies(t, open(t)) })
	t.Run("concurrent", func(t *testing.T) { testConcurrent(t, open(t)) })
	t.Run("closed", func(t *testing.T) { testClosed(t, open(t)) })
}

func apply(t *testing.T, s client.Store, b client.Batch) {
	t.Helper()
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, s client.Store, bucket, key, value string) {
	t.Helper()
	v, err := s.Get(t.Context(), bucket, key)
	if err != nil || string(v) != value {
		t.Errorf("%s/%s is %q, %v; want %q", bucket, key, v, err, value)
	}
}

func wantNone(t *testing.T, s client.Store, bucket, key string) {
	t.Helper()
	if v, err := s.Get(t.Context(), bucket, key); !errors.Is(err, client.ErrNoValue) {
		t.Errorf("%s/%s is %q, %v; want ErrNoValue", bucket, key, v, err)
	}
}

func testRows(t *testing.T, s client.Store) {
	defer s.Close()
	wantNone(t, s, "a", "1")
	var b client.Batch
	b.Set("a", "1", []byte("one"))
	b.Set("a", "", nil)
	b.Set("", "1", []byte("x"))
	b.Durable = true
	apply(t, s, b)
	want(t, s, "a", "1", "one")
	want(t, s, "a", "", "")
	want(t, s, "", "1", "x")
	wantNone(t, s, "a1", "")
	apply(t, s, client.Batch{Put: []client.Row{{Bucket: "a", Key: "1", Value: []byte("two")}}})
	want(t, s, "a", "1", "two")
	apply(t, s, client.Batch{Delete: []client.Key{{Bucket: "a", Key: "1"}, {Bucket: "a", Key: "none"}}})
	wantNone(t, s, "a", "1")
	apply(t, s, client.Batch{})
	apply(t, s, client.Batch{Durable: true})
}

func testOrder(t *testing.T, s client.Store) {
	defer s.Close()
	apply(t, s, client.Batch{Put: []client.Row{{Bucket: "a", Key: "old"}, {Bucket: "a", Key: "k", Value: []byte("1")}}})
	apply(t, s, client.Batch{
		Drop:   []string{"a"},
		Delete: []client.Key{{Bucket: "a", Key: "k"}},
		Put:    []client.Row{{Bucket: "a", Key: "k", Value: []byte("2")}, {Bucket: "a", Key: "k", Value: []byte("3")}},
	})
	wantNone(t, s, "a", "old")
	want(t, s, "a", "k", "3")
}

func testBuckets(t *testing.T, s client.Store) {
	defer s.Close()
	var b client.Batch
	for i := range 300 {
		b.Set("big", fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, i))
	}
	b.Set("bigger", "0", []byte("other"))
	apply(t, s, b)
	rows, err := s.Bucket(t.Context(), "big")
	if err != nil || len(rows) != 300 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i := range 300 {
		if !bytes.Equal(rows[fmt.Sprint(i)], bytes.Repeat([]byte{byte(i)}, i)) {
			t.Errorf("row %d is %q", i, rows[fmt.Sprint(i)])
		}
	}
	apply(t, s, client.Batch{Drop: []string{"big"}})
	if rows, err := s.Bucket(t.Context(), "big"); err != nil || len(rows) != 0 {
		t.Errorf("%d rows after drop, %v", len(rows), err)
	}
	want(t, s, "bigger", "0", "other")
}

func testMany(t *testing.T, s client.Store) {
	defer s.Close()
	apply(t, s, client.Batch{Put: []client.Row{{Bucket: "a", Key: "1", Value: []byte("x")}, {Bucket: "a", Key: "3"}}})
	vs, err := s.GetMany(t.Context(), "a", []string{"3", "2", "1"})
	if err != nil || len(vs) != 3 || vs[0] == nil || len(vs[0]) != 0 || vs[1] != nil || string(vs[2]) != "x" {
		t.Errorf("got %q, %v", vs, err)
	}
}

func testCopies(t *testing.T, s client.Store) {
	defer s.Close()
	v := []byte("value")
	apply(t, s, client.Batch{Put: []client.Row{{Bucket: "a", Key: "1", Value: v}}})
	v[0] = 'X'
	got, err := s.Get(t.Context(), "a", "1")
	if err != nil {
		t.Fatal(err)
	}
	got[1] = 'Y'
	want(t, s, "a", "1", "value")
}

func testConcurrent(t *testing.T, s client.Store) {
	defer s.Close()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 25 {
				// The two rows change together or not at all.
				v := []byte(fmt.Sprint(w, i))
				if err := s.Apply(t.Context(), client.Batch{Put: []client.Row{{Bucket: "c", Key: "x", Value: v}, {Bucket: "c", Key: "y", Value: v}}}); err != nil {
					t.Error(err)
				}
				rows, err := s.Bucket(t.Context(), "c")
				if err != nil || string(rows["x"]) != string(rows["y"]) {
					t.Errorf("torn batch: %q, %v", rows, err)
				}
			}
		})
	}
	wg.Wait()
}

func testClosed(t *testing.T, s client.Store) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := s.Apply(t.Context(), client.Batch{Put: []client.Row{{Bucket: "a", Key: "1"}}}); err == nil {
		t.Error("Apply after Close succeeded")
	}
	if _, err := s.Get(t.Context(), "a", "1"); err == nil || errors.Is(err, client.ErrNoValue) {
		t.Errorf("Get after Close: %v", err)
	}
}

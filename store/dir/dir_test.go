package dir_test

import (
	"testing"

	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/storetest"
)

func open(t testing.TB, path string, config dir.Config) *dir.Store {
	t.Helper()
	s, err := dir.Open(path, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir()+"/store", dir.Config{}) },
		storetest.Options{Durability: store.Durable, Resume: true})
}

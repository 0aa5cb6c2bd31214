package mem_test

import (
	"testing"

	"ndferry/store"
	"ndferry/store/mem"
	"ndferry/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return mem.New(mem.Config{}) }, storetest.Options{})
}

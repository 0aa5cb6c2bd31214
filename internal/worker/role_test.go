package worker

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roles are what this test binary is when a test runs it again with a variable of the environment set: a process of a test that dies.
var roles = map[string]func(text string){}

func addRole(variable string, run func(text string)) bool {
	roles[variable] = run
	return true
}

func TestMain(m *testing.M) {
	for variable, run := range roles {
		if text := os.Getenv(variable); text != "" {
			run(text)
			return
		}
	}
	goleak.VerifyTestMain(m)
}

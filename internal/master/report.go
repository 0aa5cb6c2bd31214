package master

import "time"

// Ways of dispatch.
const (
	RoundRobin  = "round-robin"
	LeastLoaded = "least-loaded"
)

// MaxWorkers is how many workers a master has at most.
const MaxWorkers = 256

// Status is how a master and its workers do, for people and as JSON. Numbers count from the master's start.
type Status struct {
	PID          int            `json:"pid"`
	Since        time.Time      `json:"since"`
	Dispatch     string         `json:"dispatch,omitzero"`
	Connections  int            `json:"connections"` // that workers have, or are offered
	Accepted     uint64         `json:"accepted"`
	Offered      uint64         `json:"offered"`        // a connection may be offered several times
	Redispatched uint64         `json:"redispatched"`   // offers that went elsewhere
	Revoked      uint64         `json:"revoked"`        // of them, because the worker did not answer
	Refused      uint64         `json:"refused"`        // of them, because the worker refused
	Returned     uint64         `json:"returned"`       // connections that workers gave to others
	Cut          uint64         `json:"cut"`            // connections that workers had when they died
	Waiting      int            `json:"waiting"`        // connections that no worker could have yet
	P50          float64        `json:"dispatch_p50_s"` // seconds from accept to the first touch
	P99          float64        `json:"dispatch_p99_s"`
	Workers      []WorkerStatus `json:"workers"`
}

// WorkerStatus is one worker's part of Status. Counts are of all processes that were in its place.
type WorkerStatus struct {
	Worker      int        `json:"worker"` // its place, from 1
	PID         int        `json:"pid"`    // 0: none runs
	Generation  uint32     `json:"generation"`
	State       string     `json:"state"` // down, starting, ready, stalled or draining
	Since       *time.Time `json:"since,omitzero"`
	Restarts    int        `json:"restarts"`
	Connections int        `json:"connections"`
	Load        int        `json:"load"` // connections and offers that are not answered
	Offered     uint64     `json:"offered"`
	Taken       uint64     `json:"taken"`
	Refused     uint64     `json:"refused"`
	Revoked     uint64     `json:"revoked"`
	Returned    uint64     `json:"returned"`
	Cut         uint64     `json:"cut"`
}

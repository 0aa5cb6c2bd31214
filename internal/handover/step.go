package handover

// Step is a named moment in the life of a connection or a worker. The names are those of the kill matrix, in tests and documents.
type Step string

// Steps of the master and of a worker.
const (
	StepAccepted Step = "M1" // a connection was accepted
	StepDescribe Step = "M2" // its metadata is known; the master reads nothing of it
	StepOffer    Step = "M3" // before the descriptor is passed
	StepOffered  Step = "M4" // it is passed, the master's own copy still open
	StepAnswered Step = "M5" // the worker has answered, the master's copy still open
	StepReap     Step = "M6" // a worker is dead, its offers are looked at next
	StepSpawn    Step = "M7" // a worker is started next
	StepDrain    Step = "M8" // workers are told to end next

	StepReceived Step = "W1"  // the worker has the descriptor, and has not taken the connection
	StepTaken    Step = "W1+" // it has taken it, and not touched it
	StepServed   Step = "W2"  // it has touched it and serves it, and has not answered
)

// Hook is called at steps, in tests; nil in production. It may end or stop the process, wait, or return an error, which then
// counts as the failure of what follows the step.
type Hook func(Step) error

// At calls the hook if there is one.
func (h Hook) At(s Step) error {
	if h == nil {
		return nil
	}
	return h(s)
}

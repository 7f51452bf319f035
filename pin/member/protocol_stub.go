package member

import "github.com/libp2p/go-libp2p/core/protocol"

// Protocol is the name of the enrolment protocol.
const Protocol protocol.ID = "/musen/enrol/1"

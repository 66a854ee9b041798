package command

// For tests.
var (
	NewID     = newID
	Quote     = quote
	Printable = printable
)

package inspecting

// AlwaysInParts makes i read all remote objects in parts, however small.
func (i *Inspector) AlwaysInParts() { i.small = 0 }

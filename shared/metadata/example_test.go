package metadata_test

import (
	"fmt"

	"github.com/reshelf/reshelf/shared/metadata"
)

func ExampleDerive() {
	_, tags, err := metadata.DecodeObject([]byte(`{
		"SourceFile": "1.jpg",
		"IFD0:Model": "NIKON D70",
		"ExifIFD:DateTimeOriginal": "2005:01:14 08:57:59",
		"ExifIFD:SubSecTimeOriginal": 20
	}`))
	if err != nil {
		panic(err)
	}
	facts := metadata.Derive(tags)
	fmt.Println(facts.Model, facts.Capture.Wall, facts.Capture.Source)
	// Output: NIKON D70 2005-01-14T08:57:59.20 ExifIFD:DateTimeOriginal
}

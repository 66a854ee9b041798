package archive_test

import (
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
)

func ExampleKey_Text() {
	key, err := archive.ParseKey("2024/caf\xe9\n.jpg")
	if err != nil {
		panic(err)
	}
	fmt.Println(key.Text())
	// Output: 2024/caf\xe9\u{a}.jpg
}

func ExampleParseRoot() {
	root, err := archive.ParseRoot("s3://photos/2024/spring%20trip/")
	if err != nil {
		panic(err)
	}
	fmt.Println(root.Bucket(), "-", root.Path(), "-", root)
	// Output: photos - 2024/spring trip - s3://photos/2024/spring%20trip
}

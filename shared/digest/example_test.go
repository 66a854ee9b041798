package digest_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/reshelf/reshelf/shared/digest"
)

func ExampleSum() {
	set, err := digest.ParseSet("crc32,xxh3-64")
	if err != nil {
		panic(err)
	}
	digests, n, err := digest.Sum(context.Background(), set, strings.NewReader("abc"), make([]byte, 64<<10), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(n, digests)
	// Output: 3 [crc32:352441c2 xxh3-64:78af5f94892f3950]
}

package naming_test

import (
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

func ExampleParse() {
	tmpl, err := naming.Parse("{date:%Y/%m}/{date:%Y%m%d-%H%M%S}[_{model|slug}]{ext|lower}")
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := tmpl.Name(naming.Values{
		Key: "inbox/IMG_1234.JPG",
		Facts: metadata.Facts{
			Model:   "Canon EOS R5",
			Capture: metadata.Time{Wall: "2024-05-03T14:05:09", Source: "ExifIFD:DateTimeOriginal"},
		},
	})
	fmt.Println(got.Key, got.DateSource, err)
	// Output: 2024/05/20240503-140509_canon-eos-r5.jpg ExifIFD:DateTimeOriginal <nil>
}

func ExampleSyntaxError_Caret() {
	_, err := naming.Parse("{date:%Y}/{model|slog}")
	var syntax *naming.SyntaxError
	if errors.As(err, &syntax) {
		fmt.Println(syntax.Caret())
		fmt.Println(syntax)
	}
	// Output:
	// {date:%Y}/{model|slog}
	//                  ^
	// invalid template, column 18: unknown filter "slog"; want one of ascii, camel, default, kebab, lower, map, number, pad, regex, replace, shift, slug, snake, substr, title, trim, upper
}

func ExampleGroups_Arrange() {
	g := naming.DefaultGroups()
	for _, u := range g.Arrange([]archive.Key{"a.CR2", "a.JPG", "a.JPG.xmp", "a.pdf", "a.xmp"}) {
		fmt.Println(u.Principal, u.Companions)
		for _, to := range g.CompanionNames(u, "2024/b.cr2") {
			fmt.Println("  ", to)
		}
	}
	// Output:
	// a.CR2 [a.JPG a.JPG.xmp a.xmp]
	//    2024/b.JPG
	//    2024/b.JPG.xmp
	//    2024/b.xmp
	// a.pdf []
}

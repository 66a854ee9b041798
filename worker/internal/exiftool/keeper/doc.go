// Package keeper is the process between go-exiftool and ExifTool: it supervises one ExifTool and always answers.
//
// go-exiftool writes file names raw into ExifTool's command stream, takes whatever comes back for the answer, and waits
// for ever when its child dies. So its child is never ExifTool but a keeper: our own binary, started again through a
// symbolic link named [LinkName], which [Main] recognises.
//
//	pool ── go-exiftool ── stdin, stdout ──> keeper ── stdin, stdout, stderr ──> exiftool -stay_open True -@ -
//	  └──────── control socket ─────────────────┘
//
// Towards go-exiftool a keeper speaks ExifTool's protocol as far as go-exiftool uses it: "-j", a name, "-execute" in;
// one JSON array with one object and "{ready}" out. The name must be one of the keeper's own aliases (see [AliasDir]);
// anything else is refused and never reaches ExifTool. Over the control socket the pool hands over the open file and the
// deadline of each request, and the keeper its descriptors and what became of ExifTool.
//
// A keeper first confines itself and starts its program once more, with a clean environment (see enter). So keeper and
// ExifTool have the same few rights, and neither holds anything of the worker's but the file to read.
//
// For each request the keeper
//   - starts ExifTool where none runs, and believes in it only after it has told its version and read a sample right;
//   - sends the fixed arguments of its level, the alias and a numbered -execute, and accepts only the answer that ends
//     with that number and names that alias;
//   - replaces an ExifTool that has read many files or grown, by one that is started before the old one ends;
//   - kills ExifTool's process group at the deadline, above the bound on answers, and when an answer is not one;
//   - tries a file that ExifTool did not survive once more in a fresh process with a longer deadline;
//   - answers, in every case. The member [NoteKey] of the answer says what happened.
//
// Processes end in a chain: a keeper gets SIGKILL when the thread that started it ends, ExifTool when the keeper does.
package keeper

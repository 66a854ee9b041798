// Package exiftool reads the tags of open files through a pool of persistent ExifTool processes.
//
// go-exiftool is the client, and this is the only package that imports it. Each of its instances runs on a keeper (see
// package keeper), because by itself go-exiftool executes commands hidden in file names, gives one file's tags to
// another, and waits for ever when its child dies. What this package adds on its side:
//
//   - No file name is ever passed on. A file is opened by the caller and its descriptor handed to the keeper; ExifTool
//     gets an alias, a symbolic link to /proc/KEEPER/fd/N with the extension of the object's name and nothing else of it.
//   - Every call ends: at ctx's end, at its deadline, and when its keeper dies. The pool holds the keeper's ends of
//     go-exiftool's pipes, and writes the missing "{ready}" itself. docs/decisions/keeper.md says why that is sound.
//   - What is not a file's fault (no ExifTool, no processes, a killed keeper) is never recorded as one.
package exiftool

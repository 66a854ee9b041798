// Reads every file that is named on standard input, one name a line, through exiftool-vendored: all at once, as its
// documentation says; it lines them up itself. Prints how many were answered.
//
//   node read.mjs defaults
//   node read.mjs same PROGRAM PROCESSES FLAG…
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.env.BENCH_MODULES + "/");
const { ExifTool } = require("exiftool-vendored");

const [how, program, processes, ...flags] = process.argv.slice(2);
const names = readFileSync(0, "utf8").split("\n").filter(Boolean);
const et = how === "same" ? new ExifTool({ exiftoolPath: program, maxProcs: Number(processes) }) : new ExifTool();
const read = (name) => (how === "same" ? et.readRaw(name, { readArgs: flags }) : et.read(name));
let answered = 0;
await Promise.all(
  names.map(async (name) => {
    try {
      const tags = await read(name);
      if (tags.SourceFile) answered++;
    } catch (error) {
      console.error(`${name}: ${error.message}`);
    }
  }),
);
await et.end();
console.log(answered);

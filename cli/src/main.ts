import { writeSync } from "node:fs";
import { cliVersion } from "./version.ts";

// Asked for alone, the version is printed before anything else is loaded, standard output's stream included: start-up
// is measured on it. Nothing else imports version.ts, so that the build puts it into this file instead of one more.
if (process.argv.length === 3 && process.argv[2] === "--version") {
  try {
    writeSync(1, `coppice ${cliVersion()}\n`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A reader that went away is no trouble of anybody's.
    if (code !== "EPIPE") {
      process.stderr.write(`✗ standard output cannot be written: ${code}\n`);
      process.exitCode = 1;
    }
  }
} else {
  const { runProgram } = await import("./app.ts");
  process.exitCode = await runProgram(process, cliVersion());
}

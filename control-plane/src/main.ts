import { isFailure } from "@coppice/proto/kit/failure";
import { controlPlaneVersion } from "./version.ts";

// `--version` must not wait for the modules that everything else needs.
if (process.argv[2] === "--version" && process.argv.length === 3) {
  console.log(`coppice-control ${controlPlaneVersion()}`);
} else {
  const { runCommand } = await import("./command-line.ts");
  try {
    await runCommand(process.argv, (line) => console.log(line));
  } catch (error) {
    if (isUsageError(error)) {
      process.exitCode = error.exitCode === 0 ? 0 : 2;
      // Help, asked for or shown for want of a command, has been printed.
      if (error.exitCode !== 0 && error.code !== "commander.help") {
        console.error(`✗ ${error.message.replace(/^error: /, "").split("\n")[0]}`);
        console.error("  next: see `coppice-control --help`");
      }
    } else if (isFailure(error)) {
      console.error(`coppice-control: ${error.message}`);
      if (error.hint !== "") console.error(`next: ${error.hint}`);
      process.exitCode = error.reason === "CONFIGURATION_INVALID" || error.reason === "INVALID_FIELD" ? 2 : 1;
    } else {
      throw error;
    }
  }
}

/** Commander's error, told by its code: its module is not loaded for the version alone. */
function isUsageError(error: unknown): error is Error & { readonly code: string; readonly exitCode: number } {
  return (
    error instanceof Error && "code" in error && String(error.code).startsWith("commander.") && "exitCode" in error
  );
}

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
    if (!isFailure(error)) throw error;
    console.error(`coppice-control: ${error.message}`);
    if (error.hint !== "") console.error(`next: ${error.hint}`);
    process.exitCode = error.reason === "CONFIGURATION_INVALID" ? 2 : 1;
  }
}

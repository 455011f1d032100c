// The version is asked for often and by scripts, so that nothing but it is loaded then.
if (process.argv[2] === "--version") {
  const { agentVersion } = await import("./version.ts");
  console.log(`coppice-agent ${agentVersion()}`);
} else {
  // Each call into a file system that hangs keeps a thread, and with the usual four everything else would soon wait too.
  process.env["UV_THREADPOOL_SIZE"] ??= "32";
  const { runCommandLine } = await import("./command-line.ts");
  // A reader that goes away, as `| head` does, ends nothing: what was asked for is done, and its exit code is true.
  let isCutOff = false;
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
    isCutOff ||= code !== "EPIPE" && code !== "ERR_STREAM_DESTROYED";
  });
  // What goes on is said there, and answers nothing.
  process.stderr.on("error", () => {});
  const exitCode = await runCommandLine(process.argv.slice(2));
  process.exitCode = exitCode === 0 && isCutOff ? 1 : exitCode;
}

import type { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { lookUpUser } from "./os-user.ts";
import type { Program } from "./program.ts";
import { runProgram } from "./run.ts";

const signal = new AbortController().signal;
const sh = (script: string, more: Partial<Program> = {}): Program => ({ file: "sh", args: ["-c", script], ...more });

test("a program gets its input and gives its output", async () => {
  const { stdout, stderr } = await runProgram(sh("tr a-z A-Z; echo note >&2"), { signal, input: "abc" });
  expect(stdout.toString()).toBe("ABC");
  expect(stderr).toBe("note");
  expect((await runProgram(sh("wc -c"), { signal, input: "" })).stdout.toString().trim()).toBe("0");
  expect((await runProgram(sh("wc -c"), { signal })).stdout.toString().trim()).toBe("0");
});

test("a program sees a clean environment and the folder /", async () => {
  process.env["COPPICE_LEAK"] = "1";
  const { stdout } = await runProgram(sh("env; pwd", { env: { PGAPPNAME: "coppice" } }), { signal });
  delete process.env["COPPICE_LEAK"];
  const lines = stdout.toString().trim().split("\n");
  expect(lines).toContain("LANG=C.UTF-8");
  expect(lines).toContain("PGAPPNAME=coppice");
  expect(lines.at(-1)).toBe("/");
  const names = lines.slice(0, -1).map((line) => line.split("=")[0] ?? "");
  expect(["HOME", "LANG", "LOGNAME", "OLDPWD", "PATH", "PGAPPNAME", "PWD", "SHLVL", "TZ", "USER", "_"]).toEqual(
    expect.arrayContaining(names),
  );
});

test("too much output is a failure", async () => {
  const tooMuch = runProgram({ file: "cat", args: ["/dev/zero"] }, { signal, maxOutputBytes: 100_000 });
  await expect(tooMuch).rejects.toMatchObject({
    reason: "PROGRAM_FAILED",
    message: "cat wrote more than 100000 bytes",
  });
});

test("an exit code that is not 0 is a failure with the last lines", async () => {
  await expect(runProgram(sh("echo out; echo a >&2; echo b >&2; exit 3"), { signal })).rejects.toMatchObject({
    reason: "PROGRAM_FAILED",
    message: "sh ended with exit code 3: b",
    metadata: { program: "sh", exitCode: "3", stderr: "a\nb" },
  });
  const age = sh("echo age: error: no >&2; echo age: report unexpected or unhelpful errors at https://x >&2; exit 1");
  await expect(runProgram(age, { signal })).rejects.toThrow("sh ended with exit code 1: age: error: no");
});

test("an aborted program rejects with the signal's reason", async () => {
  const reason = new Error("enough");
  await expect(runProgram(sh("true"), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  const controller = new AbortController();
  const ran = runProgram(sh("sleep 60"), { signal: controller.signal });
  controller.abort(reason);
  await expect(ran).rejects.toBe(reason);
});

test("a user is found by name and by uid, and one that is not there is not", async () => {
  const root = await lookUpUser("root", signal);
  expect(root).toMatchObject({ name: "root", uid: 0, gid: 0, home: "/root" });
  expect(await lookUpUser(0, signal)).toEqual(root);
  for (const user of ["no-such-user", "0", 4_000_000, ""]) {
    await expect(lookUpUser(user, signal)).rejects.toMatchObject({ reason: "OS_USER_NOT_FOUND" });
  }
});

test("only root runs a program as another user", async () => {
  const daemon = await lookUpUser("daemon", signal);
  const asDaemon = runProgram(sh("id -u; echo $HOME $USER; cat /proc/$$/status", { user: daemon }), { signal });
  const outcome = await asDaemon.then(
    ({ stdout }) => stdout.toString().split("\n").slice(0, 2),
    (error: unknown) => (error as Failure).reason,
  );
  const isRoot = process.getuid?.() === 0;
  expect(outcome).toEqual(isRoot ? [String(daemon.uid), `${daemon.home} daemon`] : "OS_USER_NOT_USABLE");
});

import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type Command, CommandSchema, type Result, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openJournal } from "./journal.ts";

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-journal-"));
  file = join(folder, "journal/commands.jsonl");
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

function command(id: string, { operation = "op_1", number = 1n, incarnation = 1n } = {}): Command {
  return create(CommandSchema, {
    commandId: id,
    operationId: operation,
    attempt: 1,
    fence: { incarnation, number },
    secrets: [{ id: "sec_1", value: "hunter2" }],
    spec: { case: "checkCluster", value: { connection: { passwordSecret: "sec_1" } } },
  });
}

function result(id: string, operation = "op_1"): Result {
  return create(ResultSchema, {
    commandId: id,
    operationId: operation,
    attempt: 1,
    fence: { incarnation: 1n, number: 1n },
    result: { case: "deleteBackup", value: { objects: 7 } },
  });
}

describe("the journal", () => {
  test("answers a repeated command with its result, also after a restart", async () => {
    {
      await using journal = await openJournal(folder);
      expect(await journal.admit(command("cmd_1"))).toEqual({ is: "new" });
      expect(await journal.admit(command("cmd_1"))).toEqual({ is: "seen" });
      await journal.end(result("cmd_1"));
      expect(await journal.admit(command("cmd_1"))).toEqual({ is: "ended", result: result("cmd_1") });
    }
    await using journal = await openJournal(folder);
    expect(await journal.admit(command("cmd_1"))).toEqual({ is: "ended", result: result("cmd_1") });
    expect(journal.unacknowledged()).toEqual([result("cmd_1")]);
  });

  test("keeps a result until it is acknowledged and the command's id longer", async () => {
    {
      await using journal = await openJournal(folder);
      await journal.admit(command("cmd_1"));
      await journal.end(result("cmd_1"));
      await journal.acknowledge("cmd_1");
      await journal.acknowledge("cmd_unknown");
      expect(journal.unacknowledged()).toEqual([]);
    }
    await using journal = await openJournal(folder);
    expect(journal.unacknowledged()).toEqual([]);
    expect(await journal.admit(command("cmd_1"))).toEqual({ is: "seen" });
    expect(await readFile(file, "utf8")).not.toContain("deleteBackup");
  });

  test("does not begin a command again that was under way when the agent died", async () => {
    {
      await using journal = await openJournal(folder);
      await journal.admit(command("cmd_1"));
    }
    await using journal = await openJournal(folder);
    expect(await journal.admit(command("cmd_1"))).toEqual({ is: "seen" });
    expect(journal.unacknowledged()).toEqual([]);
  });

  test("refuses an older fence of the same operation, incarnation first, also after a restart", async () => {
    {
      await using journal = await openJournal(folder);
      await journal.admit(command("cmd_1", { number: 5n, incarnation: 2n }));
      await journal.end(result("cmd_1"));
    }
    await using journal = await openJournal(folder);
    expect(await journal.admit(command("cmd_2", { number: 4n, incarnation: 2n }))).toMatchObject({ is: "stale" });
    expect(await journal.admit(command("cmd_3", { number: 9n, incarnation: 1n }))).toMatchObject({ is: "stale" });
    expect(await journal.admit(command("cmd_4", { number: 5n, incarnation: 2n }))).toEqual({ is: "new" });
    expect(await journal.admit(command("cmd_5", { number: 1n, incarnation: 3n }))).toEqual({ is: "new" });
    expect(await journal.admit(command("cmd_6", { number: 1n, operation: "op_2" }))).toEqual({ is: "new" });
  });

  test("remembers the steps of an operation across restarts", async () => {
    for (const value of ["16384", "16400"]) {
      await using journal = await openJournal(folder);
      await journal.note("op_1", "oid", value);
    }
    for (let restart = 0; restart < 2; restart++) {
      await using journal = await openJournal(folder);
      expect(journal.noted("op_1", "oid")).toBe("16400");
      expect(journal.noted("op_2", "oid")).toBeUndefined();
    }
  });

  test("drops a last line that a crash has cut off and goes on behind the whole ones", async () => {
    {
      await using journal = await openJournal(folder);
      await journal.admit(command("cmd_1"));
      await journal.end(result("cmd_1"));
    }
    await appendFile(file, '{"kind":"received","commandId":"cmd_2","operat');
    {
      await using journal = await openJournal(folder);
      expect(await journal.admit(command("cmd_2"))).toEqual({ is: "new" });
    }
    await using journal = await openJournal(folder);
    expect(await journal.admit(command("cmd_2"))).toEqual({ is: "seen" });
    expect(journal.unacknowledged()).toHaveLength(1);
  });

  test("refuses a file that is damaged anywhere else, naming the line", async () => {
    {
      await using journal = await openJournal(folder);
      await journal.admit(command("cmd_1"));
    }
    await writeFile(file, `not a record\n${await readFile(file, "utf8")}`);
    await expect(openJournal(folder)).rejects.toMatchObject({
      reason: "JOURNAL_DAMAGED",
      message: `line 1 of ${file} cannot be read`,
    });
  });

  test("holds no secret and is for its owner's eyes only", async () => {
    await using journal = await openJournal(folder);
    await journal.admit(command("cmd_1"));
    const text = await readFile(file, "utf8");
    expect(text).toContain("sec_1");
    expect(text).not.toContain("hunter2");
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test("stays small however many commands come and go", async () => {
    {
      await using journal = await openJournal(folder);
      for (let number = 0; number < 30; number++) {
        const id = `cmd_${number}`;
        await journal.admit(command(id, { operation: `op_${number}` }));
        const large = result(id, `op_${number}`);
        large.leavings = ["x".repeat(400_000)];
        await journal.end(large);
        await journal.acknowledge(id);
      }
    }
    expect((await stat(file)).size).toBeLessThan(6 << 20);
  });
});

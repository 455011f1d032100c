import { expect, test } from "vitest";
import { archiveStatements, formatCommand, isOwnCommand } from "./archive-command.ts";
import type { ArchiverState } from "./archiver-state.ts";

const socket = "/var/lib/it's 100% mine/s";
const command = formatCommand({ shim: "/usr/bin/coppice-wal", socket });
const wanted = { command, maxAgeSeconds: 60 };
const state = { mode: "on", command: "", library: "", timeoutSeconds: 0 } as ArchiverState;

test("a command is for the server's shell and has no placeholder but the path, and is known again", () => {
  expect(command).toBe(`'/usr/bin/coppice-wal' push '/var/lib/it'\\''s 100%% mine/s' %p`);
  expect(isOwnCommand(command, socket)).toBe(true);
  expect(isOwnCommand(formatCommand({ shim: "/opt/coppice-wal", socket }), socket)).toBe(true);
  expect(isOwnCommand(command, "/srv/agent/var/lib/it's 100% mine/s")).toBe(true);
  expect(isOwnCommand(command, "/var/lib/other/s")).toBe(false);
  expect(isOwnCommand(command, "/var/lib/more it's 100% mine/s")).toBe(false);
});

test("statements say what is missing, and nothing else", () => {
  const { live, restart } = archiveStatements({ ...state, mode: "off" }, wanted);
  expect(live.map((each) => each.replace(/ = .*/s, ""))).toEqual([
    "ALTER SYSTEM SET archive_command",
    "ALTER SYSTEM SET archive_timeout",
    "SELECT pg_reload_conf();",
  ]);
  expect(restart).toEqual(["ALTER SYSTEM SET archive_mode = on;"]);
  expect(archiveStatements({ ...state, command, timeoutSeconds: 30 }, wanted)).toEqual({ live: [], restart: [] });
  expect(archiveStatements({ ...state, command, timeoutSeconds: 600 }, wanted).live[0]).toContain("'60s'");
  // What was set here is raised, up to what it was before; what somebody else has set since is not.
  const raised = (beforeSeconds: number, timeoutSeconds = 5) =>
    archiveStatements({ ...state, command, timeoutSeconds }, wanted, {
      setSeconds: 5,
      beforeSeconds,
      wasAltered: true,
    });
  expect([raised(0), raised(600), raised(30)].map(({ live }) => live[0])).toEqual(
    ["60", "60", "30"].map((seconds) => `ALTER SYSTEM SET archive_timeout = '${seconds}s';`),
  );
  expect(raised(0, 6).live).toEqual([]);
  expect(archiveStatements({ ...state, library: "basic_archive" }, wanted).live).toContain(
    "ALTER SYSTEM SET archive_library = '';",
  );
});

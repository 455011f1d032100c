import { create } from "@bufbuild/protobuf";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { expect, test } from "vitest";
import { formatSuccess } from "../../output/success.ts";
import { describePush } from "./push.ts";

const paint = (_style: string, text: string) => text;
const session = {
  terminal: { paint },
  success: (...[message, options]: [string, Parameters<typeof formatSuccess>[2]?]) =>
    formatSuccess(paint, message, options),
};
const archive = { clusterName: "shop", repositoryName: "main", hostName: "db7" };

test("what was done live is said, and what a restart is needed for, with its statements", () => {
  const say = (archiver: object) => describePush(create(WalArchiveSchema, { ...archive, archiver }), session, false);
  const by = "the agent of db7, and stored in main";
  expect(say({ isCommandSet: true })).toBe(
    `✓ WAL of shop is handed by archive_command to ${by}\n  next: coppice wal status shop\n`,
  );
  const restartStatements = ["ALTER SYSTEM SET archive_mode = on;"];
  expect(say({ restartStatements })).toBe(
    `✓ archive_command of shop is set, to hand WAL to ${by}\n  next: coppice wal status shop\n` +
      "! archive_mode is off, until then nothing is archived. As a superuser, then restart the server:\n" +
      "  ALTER SYSTEM SET archive_mode = on;\n",
  );
  expect(say({ restartStatements, isHandingOver: true })).toContain("until then it is received by the slot, as before");
  expect(describePush(create(WalArchiveSchema, archive), session, true)).toBe(
    `✓ WAL of shop would be handed by archive_command to ${by}; nothing was done\n`,
  );
});

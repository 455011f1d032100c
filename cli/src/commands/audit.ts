import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { ListAuditRecordsResponseSchema } from "@coppice/proto/gen/coppice/control/v1/audit";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { limitOption } from "../input/options.ts";
import { formatRelative } from "../output/elapsed.ts";
import { protoJson } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";

interface ListOptions {
  readonly limit: number;
}

/** `coppice audit …` */
export function addAuditCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "audit", "who changed what");
  addCommand<ListOptions>(group, execute, {
    name: "list",
    summary: "list the records, newest first; -o json shows the requests too",
    options: [limitOption()],
    examples: ["coppice audit list", "coppice audit list --limit 500 -o json"],
    run: list,
  });
}

async function list(session: Session, { limit }: ListOptions): Promise<void> {
  const api = await session.api();
  const { items: records, hasMore } = await collectPages(
    (page) => api.audit.listAuditRecords({ page }),
    ({ records }) => records,
    limit,
  );
  await session.answer({
    json: () => protoJson(ListAuditRecordsResponseSchema, create(ListAuditRecordsResponseSchema, { records })),
    table: () =>
      records.length === 0
        ? "no records\n"
        : formatTable(
            [
              { title: "WHEN" },
              { title: "WHO", cut: true },
              { title: "WHAT", cut: true },
              { title: "ON", cut: true },
              { title: "FROM", cut: true },
            ],
            records.map(({ time, principal, action, subject, subjectName, peerAddress }) => [
              formatRelative(timeOf(time), session.now()),
              principal,
              action,
              subjectName || subject,
              peerAddress,
            ]),
          ) + (hasMore ? `only the newest ${limit} are shown: --limit\n` : ""),
    names: () => records.map(({ id }) => id),
  });
}

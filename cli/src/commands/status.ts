import type { Command } from "commander";
import { Option } from "commander";
import { type Cluster, ClusterSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { type Finding, FindingSchema, SeveritySchema } from "@coppice/proto/gen/coppice/control/v1/finding";
import { type Host, HostSchema } from "@coppice/proto/gen/coppice/control/v1/host";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Api } from "../client/api.ts";
import { collectPages } from "../client/pages.ts";
import { addCommand, type Execute } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { formatRelative } from "../output/elapsed.ts";
import { enumLabel } from "../output/enum-label.ts";
import { formatFindings } from "../output/findings.ts";
import { protoJson } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";
import { formatCluster } from "./cluster/describe.ts";
import { agentState } from "./host.ts";

interface StatusOptions {
  readonly check?: boolean;
  readonly watch?: boolean;
}

interface Overview {
  readonly clusters: readonly Cluster[];
  readonly hosts: readonly Host[];
  readonly findings: readonly Finding[];
}

const watchMs = 2000;

/** `coppice status` */
export function addStatusCommand(program: Command, execute: Execute): void {
  addCommand<StatusOptions>(program, execute, {
    name: "status",
    summary: "the clusters at a glance, the worst first: last good backups, agent, findings",
    arguments: [["[cluster]", "only this cluster, in detail: name or id"]],
    options: [
      new Option("--check", "exit with 1 when anything is wrong"),
      new Option("--watch", "show it anew every 2 s until Ctrl-C"),
    ],
    examples: ["coppice status", "coppice status shop", "coppice status --check"],
    run: status,
  });
}

async function status(session: Session, { check, watch }: StatusOptions, cluster?: string): Promise<number> {
  const api = await session.api();
  const { terminal, signal } = session;
  for (;;) {
    const overview = cluster === undefined ? await readOverview(api) : await readCluster(api, cluster);
    if (watch && session.format === "table") terminal.out(terminal.paint("bold", `${session.now().toISOString()}\n`));
    await session.answer({
      json: () => ({
        clusters: overview.clusters.map((each) => protoJson(ClusterSchema, each)),
        hosts: overview.hosts.map((each) => protoJson(HostSchema, each)),
        findings: overview.findings.map((each) => protoJson(FindingSchema, each)),
      }),
      table: () => (cluster === undefined ? formatOverview(overview, session) : formatOne(overview, session)),
      names: () => overview.clusters.map(({ name }) => name),
    });
    if (!watch) return check && overview.findings.length > 0 ? exitCodes.failed : exitCodes.done;
    await sleep(watchMs, signal);
  }
}

async function readOverview(api: Api): Promise<Overview> {
  const [{ items: clusters }, { items: hosts }, { findings }] = await Promise.all([
    collectPages(
      (page) => api.clusters.listClusters({ page }),
      ({ clusters }) => clusters,
    ),
    collectPages(
      (page) => api.hosts.listHosts({ page }),
      ({ hosts }) => hosts,
    ),
    api.findings.listFindings({}),
  ]);
  return { clusters, hosts, findings };
}

/** The same of one cluster: its hosts, and what is wrong with it or with them. */
async function readCluster(api: Api, name: string): Promise<Overview> {
  const cluster = await api.clusters.getCluster({ cluster: name });
  const { hosts, findings } = await readOverview(api);
  const subjects = subjectsOf(cluster);
  return {
    clusters: [cluster],
    hosts: hosts.filter(({ id }) => subjects.has(id)),
    findings: findings.filter(({ subject }) => subjects.has(subject)),
  };
}

/** What findings about a cluster are about: itself, its servers and their hosts. */
function subjectsOf({ id, instances }: Cluster): ReadonlySet<string> {
  return new Set([id, ...instances.flatMap((instance) => [instance.id, instance.host])]);
}

/** The worst finding about a cluster. */
function worstOf(cluster: Cluster, findings: readonly Finding[]): Finding | undefined {
  const subjects = subjectsOf(cluster);
  return findings
    .filter(({ subject }) => subjects.has(subject))
    .reduce<Finding | undefined>((worst, each) => (worst && worst.severity >= each.severity ? worst : each), undefined);
}

function formatOverview({ clusters, hosts, findings }: Overview, { terminal, now, success }: Session): string {
  const time = now();
  const hostsById = new Map(hosts.map((host) => [host.id, host]));
  // Where nobody takes physical backups there is no column for them.
  const hasPhysical = clusters.some(({ lastGoodPhysical }) => lastGoodPhysical !== undefined);
  const rows = clusters
    .map((cluster) => ({ cluster, worst: worstOf(cluster, findings) }))
    .sort((a, b) => (b.worst?.severity ?? 0) - (a.worst?.severity ?? 0))
    .map(({ cluster, worst }) => {
      const agents = cluster.instances.map(({ host }) => hostsById.get(host));
      return [
        cluster.name,
        worst ? enumLabel(SeveritySchema, worst.severity) : "ok",
        formatRelative(timeOf(cluster.lastGoodDump?.time), time),
        describeVerified(cluster, time),
        ...(hasPhysical ? [formatRelative(timeOf(cluster.lastGoodPhysical?.time), time)] : []),
        cluster.instances.map(({ hostName }) => hostName).join(","),
        agents.map((host) => (host ? agentState(host, time) : "-")).join(","),
      ];
    });
  const table = formatTable(
    [
      { title: "CLUSTER", cut: true },
      { title: "STATE" },
      { title: "LAST GOOD DUMP" },
      { title: "VERIFIED" },
      ...(hasPhysical ? [{ title: "PHYSICAL" }] : []),
      { title: "HOST", cut: true },
      { title: "AGENT", cut: true },
    ],
    rows,
    (cell, column) => (column === 1 ? terminal.paint(cell === "ok" ? "green" : "red", cell) : cell),
  );
  const shown =
    rows.length > 0
      ? table
      : `no clusters are protected\n  next: ${hosts.length > 0 ? "coppice cluster list --discovered" : "coppice host add NAME"}\n`;
  if (findings.length > 0) return `${shown}\n${formatFindings(findings, terminal.paint, time)}`;
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  return `${shown}${success(`${count(clusters.length, "cluster")}, ${count(hosts.length, "host")}, nothing is wrong`)}`;
}

/** When its last good dump, or its last good physical backup, was last read again and matched. */
function describeVerified({ lastGoodDump, lastGoodPhysical }: Cluster, now: Date): string {
  const times = [lastGoodDump, lastGoodPhysical].flatMap((backup) => timeOf(backup?.verifyTime) ?? []);
  if (times.length === 0) return "never";
  return formatRelative(new Date(Math.max(...times.map((time) => time.getTime()))), now);
}

function formatOne({ clusters, hosts, findings }: Overview, { terminal, now }: Session): string {
  const agents = hosts.map((host) => `agent of ${host.name}: ${agentState(host, now())}\n`).join("");
  const details = clusters.map((cluster) => formatCluster(cluster, now())).join("");
  return `${details}\n${agents}${formatFindings(findings, terminal.paint, now())}`;
}

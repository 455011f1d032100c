import { expect, test } from "vitest";
import { includesOf, placeOfInclude, rewriteConfiguration } from "./rewrite-configuration.ts";

const debian = `data_directory = '/var/lib/postgresql/17/main'\t\t# use data in another directory
hba_file = '/etc/postgresql/17/main/pg_hba.conf'
external_pid_file '/var/run/postgresql/17-main.pid'
port = 5432
primary_conninfo = 'host=a password=secret'
#hba_file = 'ConfigDir/pg_hba.conf'
include_dir = 'conf.d'
include '/etc/shared.conf'
include_dir '/etc/postgresql/17/main/more.d'
include 'own.conf'
include '/nowhere.conf'
`;

test("a configuration of Debian's layout works in a data directory", () => {
  const places = new Map([
    ["/etc/shared.conf", "configuration/etc/shared.conf"],
    ["/etc/postgresql/17/main/more.d", "more.d"],
  ]);
  expect(rewriteConfiguration(debian, places))
    .toBe(`# moved: data_directory = '/var/lib/postgresql/17/main'\t\t# use data in another directory
# moved: hba_file = '/etc/postgresql/17/main/pg_hba.conf'
# moved: external_pid_file '/var/run/postgresql/17-main.pid'
port = 5432
# left out, a password may be in it: primary_conninfo
#hba_file = 'ConfigDir/pg_hba.conf'
include_dir = 'conf.d'
include 'configuration/etc/shared.conf'
include_dir 'more.d'
include_if_exists 'own.conf'
# not in the backup: include '/nowhere.conf'
`);
});

test("an included file keeps its place beside the main one, and one from elsewhere gets a folder", () => {
  const main = "/etc/postgresql/17/main/postgresql.conf";
  expect(placeOfInclude("/etc/postgresql/17/main/conf.d/a.conf", main)).toBe("conf.d/a.conf");
  expect(placeOfInclude("/etc/shared.conf", main)).toBe("configuration/etc/shared.conf");
  expect(placeOfInclude("/etc/../etc/x.conf", undefined)).toBe("configuration/etc/x.conf");
});

test("what a file includes is known, folders apart", () => {
  const found = includesOf(debian).map(({ path, isFolder }) => (isFolder ? `${path}/` : path));
  expect(found).toEqual([
    "conf.d/",
    "/etc/shared.conf",
    "/etc/postgresql/17/main/more.d/",
    "own.conf",
    "/nowhere.conf",
  ]);
});

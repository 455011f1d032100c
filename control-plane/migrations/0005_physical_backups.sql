CREATE TABLE "wal_anchor" (
	"cluster_id" text NOT NULL,
	"system_identifier" text NOT NULL,
	"timeline" bigint NOT NULL,
	"time_us" bigint NOT NULL,
	"lsn" "pg_lsn" NOT NULL,
	CONSTRAINT "wal_anchor_cluster_id_system_identifier_timeline_time_us_pk" PRIMARY KEY("cluster_id","system_identifier","timeline","time_us")
);
--> statement-breakpoint
CREATE TABLE "wal_archive" (
	"cluster_id" text PRIMARY KEY NOT NULL,
	"host_id" text NOT NULL,
	"repository_id" text NOT NULL,
	"system_identifier" text NOT NULL,
	"settings" jsonb NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"create_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"report_time" timestamp (3) with time zone,
	"timeline" bigint,
	"segment_bytes" bigint,
	"received_lsn" "pg_lsn",
	"stored_lsn" "pg_lsn",
	"server_lsn" "pg_lsn",
	"server_time" timestamp (3) with time zone,
	"slot_status" text DEFAULT '' NOT NULL,
	"trouble" jsonb
);
--> statement-breakpoint
CREATE TABLE "wal_commits" (
	"cluster_id" text NOT NULL,
	"system_identifier" text NOT NULL,
	"timeline" bigint NOT NULL,
	"start_lsn" "pg_lsn" NOT NULL,
	"end_lsn" "pg_lsn" NOT NULL,
	"earliest_us" bigint,
	"latest_us" bigint,
	"report_time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "wal_commits_cluster_id_system_identifier_timeline_start_lsn_pk" PRIMARY KEY("cluster_id","system_identifier","timeline","start_lsn"),
	CONSTRAINT "wal_commits_whole" CHECK ("wal_commits"."start_lsn" < "wal_commits"."end_lsn" and ("wal_commits"."earliest_us" is null) = ("wal_commits"."latest_us" is null))
);
--> statement-breakpoint
CREATE TABLE "wal_extent" (
	"cluster_id" text NOT NULL,
	"repository_id" text NOT NULL,
	"system_identifier" text NOT NULL,
	"timeline" bigint NOT NULL,
	"start_lsn" "pg_lsn" NOT NULL,
	"end_lsn" "pg_lsn" NOT NULL,
	CONSTRAINT "wal_extent_pk" PRIMARY KEY("cluster_id","repository_id","system_identifier","timeline","start_lsn"),
	CONSTRAINT "wal_extent_order" CHECK ("wal_extent"."start_lsn" < "wal_extent"."end_lsn" and "wal_extent"."timeline" > 0)
);
--> statement-breakpoint
CREATE TABLE "wal_history" (
	"cluster_id" text NOT NULL,
	"system_identifier" text NOT NULL,
	"timeline" bigint NOT NULL,
	"content" text NOT NULL,
	CONSTRAINT "wal_history_cluster_id_system_identifier_timeline_pk" PRIMARY KEY("cluster_id","system_identifier","timeline")
);
--> statement-breakpoint
ALTER TABLE "backup" ADD COLUMN "system_identifier" text;--> statement-breakpoint
ALTER TABLE "backup" ADD COLUMN "timeline" bigint;--> statement-breakpoint
ALTER TABLE "backup" ADD COLUMN "start_lsn" "pg_lsn";--> statement-breakpoint
ALTER TABLE "backup" ADD COLUMN "stop_lsn" "pg_lsn";--> statement-breakpoint
ALTER TABLE "backup" ADD COLUMN "wal_embedded" boolean;--> statement-breakpoint
ALTER TABLE "host" ADD COLUMN "desired_revision" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "wal_anchor" ADD CONSTRAINT "wal_anchor_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD CONSTRAINT "wal_archive_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD CONSTRAINT "wal_archive_host_id_host_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."host"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD CONSTRAINT "wal_archive_repository_id_repository_id_fk" FOREIGN KEY ("repository_id") REFERENCES "public"."repository"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_commits" ADD CONSTRAINT "wal_commits_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_extent" ADD CONSTRAINT "wal_extent_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_extent" ADD CONSTRAINT "wal_extent_repository_id_repository_id_fk" FOREIGN KEY ("repository_id") REFERENCES "public"."repository"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_history" ADD CONSTRAINT "wal_history_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "wal_anchor_time" ON "wal_anchor" USING btree ("cluster_id","system_identifier","time_us");--> statement-breakpoint
CREATE INDEX "wal_archive_host" ON "wal_archive" USING btree ("host_id");--> statement-breakpoint
CREATE INDEX "wal_archive_repository" ON "wal_archive" USING btree ("repository_id");--> statement-breakpoint
CREATE INDEX "wal_commits_report" ON "wal_commits" USING btree ("cluster_id","report_time");--> statement-breakpoint
CREATE INDEX "wal_extent_repository" ON "wal_extent" USING btree ("repository_id");--> statement-breakpoint
CREATE INDEX "backup_parent" ON "backup" USING btree ("parent_id");--> statement-breakpoint
ALTER TABLE "backup" ADD CONSTRAINT "backup_physical_whole" CHECK (num_nonnulls("backup"."system_identifier", "backup"."timeline", "backup"."start_lsn", "backup"."stop_lsn", "backup"."wal_embedded") = case when "backup"."kind" = 'DUMP' then 0 else 5 end);--> statement-breakpoint
ALTER TABLE "backup" ADD CONSTRAINT "backup_wal_order" CHECK ("backup"."start_lsn" <= "backup"."stop_lsn" and "backup"."timeline" > 0);
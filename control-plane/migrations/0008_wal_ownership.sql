CREATE TABLE "wal_deleted" (
	"cluster_id" text NOT NULL,
	"repository_id" text NOT NULL,
	"system_identifier" text NOT NULL,
	"timeline" bigint NOT NULL,
	"start_lsn" "pg_lsn" NOT NULL,
	"end_lsn" "pg_lsn" NOT NULL,
	CONSTRAINT "wal_deleted_pk" PRIMARY KEY("cluster_id","repository_id","system_identifier","timeline","start_lsn"),
	CONSTRAINT "wal_deleted_order" CHECK ("wal_deleted"."start_lsn" < "wal_deleted"."end_lsn" and "wal_deleted"."timeline" > 0)
);
--> statement-breakpoint
ALTER TABLE "host" ADD COLUMN "ended_entries" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "host" ADD COLUMN "stray_archives" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "grant_number" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "grant_time" timestamp (3) with time zone DEFAULT now() NOT NULL;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "grant_timeline" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "next_host_id" text;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "next_repository_id" text;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "next_settings" jsonb;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "next_end_number" bigint;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "next_time" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "former" jsonb;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "dead_owners" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "slot" jsonb;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "written_rate" bigint;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "stored_rate" bigint;--> statement-breakpoint
ALTER TABLE "wal_deleted" ADD CONSTRAINT "wal_deleted_cluster_id_cluster_id_fk" FOREIGN KEY ("cluster_id") REFERENCES "public"."cluster"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_deleted" ADD CONSTRAINT "wal_deleted_repository_id_repository_id_fk" FOREIGN KEY ("repository_id") REFERENCES "public"."repository"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "wal_deleted_repository" ON "wal_deleted" USING btree ("repository_id");--> statement-breakpoint
ALTER TABLE "wal_archive" ADD CONSTRAINT "wal_archive_next_host_id_host_id_fk" FOREIGN KEY ("next_host_id") REFERENCES "public"."host"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD CONSTRAINT "wal_archive_next_repository_id_repository_id_fk" FOREIGN KEY ("next_repository_id") REFERENCES "public"."repository"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD CONSTRAINT "wal_archive_next_whole" CHECK (num_nonnulls("wal_archive"."next_host_id", "wal_archive"."next_repository_id", "wal_archive"."next_settings", "wal_archive"."next_end_number", "wal_archive"."next_time") in (0, 5));
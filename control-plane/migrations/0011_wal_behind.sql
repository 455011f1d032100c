ALTER TABLE "wal_archive" ADD COLUMN "begin_time" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "wal_archive" ADD COLUMN "behind_time" timestamp (3) with time zone;
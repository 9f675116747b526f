package transfer

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// purgeMost bounds what one step of a purge takes.
const purgeMost = 100

// Purge removes what is kept no longer: uploads a week after they came, and at once when they are committed; what a revert
// needs, a week after the commit; files of exports after a week, reports after 30 days. Call it every hour or so.
func (s *Service) Purge(ctx context.Context) error {
	now := db.Now()
	for _, step := range []struct {
		of     func(q *bun.SelectQuery) *bun.SelectQuery
		remove func(ctx context.Context, i *Import) error
	}{
		{func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("file_key IS NOT NULL").Where("status IN (?) OR (created_at < ? AND status NOT IN (?))",
				bun.List([]ImportStatus{Committed, Reverting, Reverted}), now.Add(-uploadFor), bun.List([]ImportStatus{Checking, Committing}))
		}, s.dropUpload},
		{func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("revert_until < ?", now).Where("status <> ?", Reverting).
				Where("EXISTS (SELECT 1 FROM import_batches AS b WHERE b.import_id = ?TableAlias.id)")
		}, s.dropBatches},
		{func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("check_key IS NOT NULL OR commit_key IS NOT NULL OR revert_key IS NOT NULL").
				Where("updated_at < ?", now.Add(-reportsFor))
		}, s.dropReports},
	} {
		for {
			some, err := db.List[Import](ctx, s.DB, auth.Everywhere(), step.of, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Limit(purgeMost) })
			if err != nil {
				return err
			}
			for n := range some {
				if err := step.remove(ctx, &some[n]); err != nil {
					return err
				}
			}
			if len(some) < purgeMost {
				break
			}
		}
	}
	return s.purgeExports(ctx)
}

func (s *Service) dropUpload(ctx context.Context, i *Import) error {
	if err := s.Blobs.Delete(ctx, i.FileKey); err != nil {
		return err
	}
	_, err := s.DB.Write().NewUpdate().Model(i).Set("file_key = NULL").WherePK().Exec(ctx)
	return db.Check(err)
}

func (s *Service) dropBatches(ctx context.Context, i *Import) error {
	_, err := s.DB.Write().NewDelete().Model((*batch)(nil)).Where("import_id = ?", i.ID).Exec(ctx)
	return db.Check(err)
}

func (s *Service) dropReports(ctx context.Context, i *Import) error {
	if err := s.removeAll(ctx, []string{i.CheckKey, i.CommitKey, i.RevertKey}); err != nil {
		return err
	}
	_, err := s.DB.Write().NewUpdate().Model(i).Set("check_key = NULL").Set("commit_key = NULL").Set("revert_key = NULL").WherePK().Exec(ctx)
	return db.Check(err)
}

func (s *Service) purgeExports(ctx context.Context) error {
	for {
		old, err := db.List[Export](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("file_key IS NOT NULL").Where("expires_at < ?", db.Now()).Limit(purgeMost)
		})
		if err != nil {
			return err
		}
		for n := range old {
			if err := s.Blobs.Delete(ctx, old[n].FileKey); err != nil {
				return err
			}
			_, err := s.DB.Write().NewUpdate().Model(&old[n]).Set("file_key = NULL").Set("status = ?", ExportExpired).WherePK().Exec(ctx)
			if err != nil {
				return db.Check(err)
			}
		}
		if len(old) < purgeMost {
			return nil
		}
	}
}

package catalog

import "context"

// Count is the number of live segments of all stations.
func (c *Catalog) Count(ctx context.Context) (int, error) {
	n, err := c.reads.NewSelect().Model((*segmentRow)(nil)).Where("state = ?", live).Count(ctx)
	return int(n), c.failed(err, "count segments")
}

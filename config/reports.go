package config

import "time"

// Reports is the section [reports]: what people say is wrong with what is
// played.
type Reports struct {
	// How long a report may wait until somebody decides about it. After that it is
	// in musen status, and told once.
	ReviewWithin time.Duration `koanf:"review_within"`
	// How long a report is kept after it was closed.
	Keep time.Duration `koanf:"keep"`
	// URL of what may be played here, which the form and every refusal that is a
	// page link to. Empty: there is none.
	Guidelines string `koanf:"guidelines"`
}

func defaultReports() Reports {
	return Reports{ReviewWithin: 24 * time.Hour, Keep: 180 * 24 * time.Hour}
}

func (c Config) checkReports(fault faultFunc) {
	if c.Reports.Guidelines == "" {
		return
	}
	if err := checkCalled(c.Reports.Guidelines); err != nil {
		fault("reports.guidelines", "%w", err)
	}
}

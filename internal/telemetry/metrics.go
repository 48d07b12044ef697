package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapeTimeout bounds the reads of one scrape.
const scrapeTimeout = 5 * time.Second

// Metrics are the numbers that Prometheus scrapes.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	orders   *prometheus.CounterVec
	log      *slog.Logger
}

// NewMetrics makes the metrics of one server. What goes wrong in a scrape is
// logged.
func NewMetrics(log *slog.Logger) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certctl_http_requests_total", Help: "Requests to the API, by the pattern of their route.",
		}, []string{"method", "route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "certctl_http_request_duration_seconds", Help: "Time to answer requests to the API; polls of agents wait on purpose.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"method", "route"}),
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certctl_orders_finished_total", Help: "Orders that this replica brought to an end, by outcome.",
		}, []string{"outcome"}),
		log: log,
	}
	m.registry.MustRegister(m.requests, m.duration, m.orders,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// ObserveRequest counts a request that was answered. A method of the client's
// own invention is counted as "other": each value of a label costs memory.
func (m *Metrics) ObserveRequest(method, route string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(method, route).Observe(took.Seconds())
}

// OrderFinished counts an order that has come to an end.
func (m *Metrics) OrderFinished(outcome string) { m.orders.WithLabelValues(outcome).Inc() }

// Sample is one value, with the values of the labels.
type Sample struct {
	Labels []string
	Value  float64
}

// Gauges adds a metric whose values are read when Prometheus asks. When they
// cannot be read the metric is missing from that scrape.
func (m *Metrics) Gauges(name, help string, labels []string, read func(ctx context.Context) ([]Sample, error)) {
	m.registry.MustRegister(&gauges{
		desc: prometheus.NewDesc(name, help, labels, nil), read: read,
		failed: func(err error) { m.log.Warn("metric cannot be read", "metric", name, "error", err) },
	})
}

type gauges struct {
	desc   *prometheus.Desc
	read   func(ctx context.Context) ([]Sample, error)
	failed func(err error)
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(descs chan<- *prometheus.Desc) { descs <- g.desc }

// Collect implements prometheus.Collector.
func (g *gauges) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	samples, err := g.read(ctx)
	if err != nil {
		g.failed(err)
		return
	}
	for _, s := range samples {
		metric, err := prometheus.NewConstMetric(g.desc, prometheus.GaugeValue, s.Value, s.Labels...)
		if err != nil {
			g.failed(fmt.Errorf("sample %v: %w", s.Labels, err))
			return
		}
		metrics <- metric
	}
}

// Handler serves the metrics in the Prometheus text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

package cli

import (
	"context"

	"github.com/certctl-io/certctl/internal/client"
)

type ordersCmd struct {
	List   listOrders     `cmd:"" default:"withargs" help:"List orders."`
	Retry  orderRetryCmd  `cmd:"" help:"Continue a failed order from where it failed."`
	Cancel orderCancelCmd `cmd:"" help:"End an order that is not finished."`
}

type orderRetryCmd struct {
	ID   string `arg:"" complete:"order" help:"Id of the order."`
	Wait bool   `short:"w" help:"Wait until it is done."`
}

// Run continues the order and waits for it when asked to.
func (c orderRetryCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	started := s.now()
	order, err := api.RetryOrder(s.ctx, c.ID)
	if err != nil {
		return err
	}
	if !c.Wait {
		return orders().report(s, order, "order %s is %s: certctl wait %[1]s", order.ID, order.State)
	}
	if err := s.waitForOrders(api, order.Certificate, []string{order.ID}, started); err != nil {
		return err
	}
	if order, err = api.Order(s.ctx, order.ID); err != nil {
		return err
	}
	return orders().report(s, order, "order %s is %s", order.ID, order.State)
}

type orderCancelCmd struct {
	ID string `arg:"" complete:"order" help:"Id of the order."`
}

// Run ends the order.
func (c orderCancelCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	order, err := api.CancelOrder(s.ctx, c.ID)
	if err != nil {
		return err
	}
	return orders().report(s, order, "order %s is %s", order.ID, order.State)
}

type deploymentsCmd struct {
	List  listDeployments    `cmd:"" default:"withargs" help:"List deployments."`
	Retry deploymentRetryCmd `cmd:"" help:"Try a failed deployment again."`
}

type deploymentRetryCmd struct {
	ID   string `arg:"" complete:"deployment" help:"Id of the deployment."`
	Wait bool   `short:"w" help:"Wait until it is done."`
}

// Run tries again and waits for it when asked to.
func (c deploymentRetryCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	started := s.now()
	d, err := api.RetryDeployment(s.ctx, c.ID)
	if err != nil {
		return err
	}
	if !c.Wait {
		return deployments().report(s, d, "deployment %s is %s: certctl wait %[1]s", d.ID, d.State)
	}
	if err := s.waitForDeployments(api, d.Certificate, []string{d.ID}, started); err != nil {
		return err
	}
	if d, err = api.Deployment(s.ctx, d.ID); err != nil {
		return err
	}
	return deployments().report(s, d, "deployment %s is %s", d.ID, d.State)
}

type jobsCmd struct {
	List   listJobs     `cmd:"" default:"withargs" help:"List background jobs."`
	Retry  jobRetryCmd  `cmd:"" help:"Run a job again now."`
	Cancel jobCancelCmd `cmd:"" help:"End a job that is not finished."`
}

type jobRetryCmd struct {
	ID int64 `arg:"" help:"Id of the job."`
}

// Run runs the job again.
func (c jobRetryCmd) Run(s *session) error { return changeJob(s, c.ID, (*client.Client).RetryJob) }

type jobCancelCmd struct {
	ID int64 `arg:"" help:"Id of the job."`
}

// Run ends the job.
func (c jobCancelCmd) Run(s *session) error { return changeJob(s, c.ID, (*client.Client).CancelJob) }

func changeJob(s *session, id int64, change func(*client.Client, context.Context, int64) (client.Job, error)) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	job, err := change(api, s.ctx, id)
	if err != nil {
		return err
	}
	return jobs().report(s, job, "job %d is %s", job.ID, job.State)
}

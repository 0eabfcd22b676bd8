// client: the jobs of bench/peers/README.md with amqp091-go, with the Event of the platform's document and encoding/json.
// The package reconnects nothing: there is no job `consumers`.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strconv"
	"syscall"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

type Event struct {
	ID            string         `json:"id"`
	Type          string         `json:"type"`
	Source        string         `json:"source"`
	Timestamp     time.Time      `json:"timestamp"`
	TenantID      string         `json:"tenant_id"`
	CorrelationID string         `json:"correlation_id,omitempty"`
	Data          interface{}    `json:"data"`
	Metadata      map[string]any `json:"metadata,omitempty"`
}

type Item struct {
	ProductID string  `json:"product_id"`
	SKU       string  `json:"sku"`
	Quantity  int     `json:"quantity"`
	Price     float64 `json:"price"`
}

type Order struct {
	OrderID     string  `json:"order_id"`
	OrderNumber string  `json:"order_number"`
	CustomerID  string  `json:"customer_id"`
	Items       []Item  `json:"items"`
	Total       float64 `json:"total"`
	Currency    string  `json:"currency"`
	Status      string  `json:"status"`
}

const (
	window   = 1000
	prefetch = 200
	rate     = 500
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func order(i, items int) Order {
	list := make([]Item, items)
	for n := range list {
		list[n] = Item{"prod_456", "SKU001", i%5 + 1, 500}
	}
	return Order{"order_xyz", "ORD-2024-001", "cust_123", list, 1000, "UAH", "pending"}
}

func event(data interface{}) Event {
	return Event{ID: "evt_" + uuid.New().String(), Type: "order.created", Source: "oms-service",
		Timestamp: time.Now().UTC(), TenantID: "tenant_abc", Data: data}
}

func usage() (float64, int64) {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	cpu := float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
	return cpu, u.Maxrss
}

var began time.Time
var beganCPU float64

func begin() {
	began = time.Now()
	beganCPU, _ = usage()
}

func finish(events int, more string) {
	seconds := time.Since(began).Seconds()
	cpu, rss := usage()
	fmt.Printf("events=%d seconds=%.6f cpu=%.6f rss_kb=%d%s\n", events, seconds, cpu-beganCPU, rss, more)
}

func open(url string) *amqp.Channel {
	connection, err := amqp.Dial(url)
	check(err)
	channel, err := connection.Channel()
	check(err)
	return channel
}

func declare(channel *amqp.Channel, queue string) {
	_, err := channel.QueueDeclare(queue, true, false, false, false, nil)
	check(err)
}

func publish(channel *amqp.Channel, queue string, i int) *amqp.DeferredConfirmation {
	e := event(order(i, 1))
	body, err := json.Marshal(e)
	check(err)
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(context.Background(), "", queue, false, false,
		amqp.Publishing{
			ContentType: "application/json", DeliveryMode: amqp.Persistent, Type: e.Type, AppId: e.Source,
			MessageId: e.ID, Timestamp: e.Timestamp, Headers: amqp.Table{"tenant_id": e.TenantID}, Body: body,
		})
	check(err)
	return confirmation
}

func publishPipelined(url, queue string, events int) {
	channel := open(url)
	declare(channel, queue)
	check(channel.Confirm(false))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, window))
	outstanding, warm := 0, events/10
	take := func() {
		if confirmation := <-confirms; !confirmation.Ack {
			check(fmt.Errorf("not confirmed"))
		}
		outstanding--
	}
	for i := 1; i <= warm+events; i++ {
		if i == warm+1 {
			for outstanding > 0 {
				take()
			}
			begin()
		}
		publish(channel, queue, i)
		outstanding++
		for outstanding == window {
			take()
		}
	}
	for outstanding > 0 {
		take()
	}
	finish(events, "")
}

func publishOne(url, queue string, events int) {
	channel := open(url)
	declare(channel, queue)
	check(channel.Confirm(false))
	warm := events / 10
	for i := 1; i <= warm+events; i++ {
		if i == warm+1 {
			begin()
		}
		if !publish(channel, queue, i).Wait() {
			check(fmt.Errorf("not confirmed"))
		}
	}
	finish(events, "")
}

func publishNone(url, queue string, events int) {
	channel := open(url)
	declare(channel, queue)
	warm := events / 10
	for i := 1; i <= warm+events; i++ {
		if i == warm+1 {
			begin()
		}
		publish(channel, queue, i)
	}
	declare(channel, queue)
	finish(events, "")
}

func subscribe(channel *amqp.Channel, queue string) <-chan amqp.Delivery {
	check(channel.Qos(prefetch, 0, false))
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	check(err)
	return deliveries
}

func total(delivery amqp.Delivery) float64 {
	var e Event
	check(json.Unmarshal(delivery.Body, &e))
	return e.Data.(map[string]any)["total"].(float64)
}

func consume(url, queue string, events int) {
	channel := open(url)
	declare(channel, queue)
	deliveries := subscribe(channel, queue)
	sum, warm := 0.0, events/10
	for i := 0; i < warm+events; i++ {
		if i == warm {
			begin()
		}
		delivery := <-deliveries
		sum += total(delivery)
		check(delivery.Ack(false))
	}
	finish(events, "")
	if sum != 1000*float64(warm+events) {
		check(fmt.Errorf("the totals do not add up"))
	}
}

func latency(url, queue string, events int) {
	warm := events / 10
	all := warm + events
	sender, receiver := open(url), open(url)
	declare(sender, queue)
	check(sender.Confirm(false))
	deliveries := subscribe(receiver, queue)
	// Confirms come back in order of the tags; they are only counted.
	confirms := sender.NotifyPublish(make(chan amqp.Confirmation, window))
	confirmed := make(chan bool)
	go func() {
		for i := 0; i < all; i++ {
			<-confirms
		}
		close(confirmed)
	}()
	sent, taken := make([]time.Time, all), make([]time.Time, all)
	begin()
	go func() {
		start := time.Now()
		for i := 0; i < all; i++ {
			time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / rate)))
			sent[i] = time.Now()
			publish(sender, queue, i)
		}
	}()
	for i := 0; i < all; i++ {
		delivery := <-deliveries
		total(delivery)
		taken[i] = time.Now()
		check(delivery.Ack(false))
	}
	<-confirmed
	waits := make([]float64, 0, events)
	for i := warm; i < all; i++ {
		waits = append(waits, taken[i].Sub(sent[i]).Seconds()*1e6)
	}
	sort.Float64s(waits)
	at := func(p float64) float64 { return waits[int(math.Ceil(float64(len(waits))*p))-1] }
	finish(all, fmt.Sprintf(" p50_us=%.0f p99_us=%.0f p999_us=%.0f", at(0.5), at(0.99), at(0.999)))
}

func topology(url, queue string, count int) {
	channel := open(url)
	begin()
	for i := 1; i <= count; i++ {
		declare(channel, fmt.Sprintf("%s.%d", queue, i))
	}
	finish(count, "")
}

func encode(events, items int) {
	e, warm, size := event(order(1, items)), events/10, 0
	for i := 1; i <= warm+events; i++ {
		if i == warm+1 {
			begin()
		}
		body, err := json.Marshal(e)
		check(err)
		size = len(body)
	}
	finish(events, fmt.Sprintf(" bytes=%d", size))
}

func decode(events, items int) {
	body, err := json.Marshal(event(order(1, items)))
	check(err)
	warm := events / 10
	for i := 1; i <= warm+events; i++ {
		if i == warm+1 {
			begin()
		}
		var e Event
		check(json.Unmarshal(body, &e))
	}
	finish(events, fmt.Sprintf(" bytes=%d", len(body)))
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: client JOB EVENTS URL QUEUE")
		os.Exit(2)
	}
	events, err := strconv.Atoi(os.Args[2])
	check(err)
	url, queue := os.Args[3], os.Args[4]
	switch os.Args[1] {
	case "publish":
		publishPipelined(url, queue, events)
	case "publish-one":
		publishOne(url, queue, events)
	case "publish-none":
		publishNone(url, queue, events)
	case "consume":
		consume(url, queue, events)
	case "latency":
		latency(url, queue, events)
	case "topology":
		topology(url, queue, events)
	case "encode-small":
		encode(events, 1)
	case "encode-10k":
		encode(events, 144)
	case "encode-1m":
		encode(events, 15000)
	case "decode-small":
		decode(events, 1)
	case "decode-10k":
		decode(events, 144)
	case "decode-1m":
		decode(events, 15000)
	default:
		fmt.Fprintln(os.Stderr, "no such job:", os.Args[1])
		os.Exit(3)
	}
}

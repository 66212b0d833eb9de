package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

const (
	chartWidth = 760
	chartLeft  = 110 // where bars begin
	chartRight = 60  // for the figures beside them
	barHeight  = 13
	barStep    = 17
	groupSpace = 34
)

// chart draws the ratios to the raw server, a group of bars with a scale of
// its own for each scenario. It carries colours for light and for dark pages
// and needs nothing else.
func chart(results []*result) string {
	b := new(strings.Builder)
	y := 44
	for _, r := range results {
		bars := chartBars(r)
		if len(bars) == 0 {
			continue
		}
		fmt.Fprintf(b, `<text class="title" x="8" y="%d">%s</text>`+"\n", y, html.EscapeString(r.scenario.Title))
		longest := 1.0
		for _, bar := range bars {
			longest = max(longest, bar.ratio)
		}
		scale := (chartWidth - chartLeft - chartRight) / longest
		top := y + 8
		y = top
		for _, bar := range bars {
			class := "peer"
			switch bar.name {
			case own():
				class = "own"
			case raw():
				class = "raw"
			}
			width := math.Round(bar.ratio*scale*10) / 10
			middle := y + barHeight - 3
			fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", chartLeft-6, middle, html.EscapeString(bar.name))
			fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%g" height="%d"/>`+"\n", class, chartLeft, y, width, barHeight)
			fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%.2f</text>`+"\n", chartWidth-8, middle, bar.ratio)
			y += barStep
		}
		one := math.Round((chartLeft+scale)*10) / 10
		fmt.Fprintf(b, `<line x1="%g" y1="%d" x2="%g" y2="%d"/>`+"\n", one, top-3, one, y)
		y += groupSpace
	}
	return fmt.Sprintf(chartHead, chartWidth, y, chartWidth, y) + b.String() + "</svg>\n"
}

const chartHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" font-family="sans-serif" font-size="12">
<style>
rect.page { fill: #fff } text { fill: #24292f } .title { font-weight: bold } line { stroke: #24292f; stroke-dasharray: 3 3 }
.own { fill: #c8402f } .peer { fill: #7d9bb8 } .raw { fill: #b5bac0 }
@media (prefers-color-scheme: dark) {
rect.page { fill: #0d1117 } text { fill: #e6edf3 } line { stroke: #e6edf3 }
.own { fill: #f0705c } .peer { fill: #4f7091 } .raw { fill: #59616b }
}
</style>
<rect class="page" width="100%%" height="100%%"/>
<text class="title" x="8" y="20">Compared with the raw server (1.00); longer is better</text>
`

type chartBar struct {
	name  string
	ratio float64
}

func chartBars(r *result) []chartBar {
	var bars []chartBar
	for _, o := range r.Outcomes {
		if q := r.toRaw(o); q.rounds > 0 {
			bars = append(bars, chartBar{o.Server, q.median})
		}
	}
	return bars
}
